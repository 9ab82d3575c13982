"""Blocks of DAG-CBOR, and the JSON form of what they hold (https://atproto.com/specs/data-model).

libipld decodes a link as its CID's bytes, and encodes bytes that are a CID as a link. So a value tells links from bytes
only if the whole block re-encodes to itself: then each value that is a CID was a link.
"""

import base64
from typing import Any

import libipld

from libs.atproto import cid
from libs.atproto.defects import Defect, Reason

LARGEST = 1 << 53
"""JSON's numbers are exact up to this."""


def decode(block: bytes, reason: Reason) -> Any:
    """What a block holds, with links as the bytes of their CIDs. Raises Defect for `reason` if it is not canonical."""
    try:
        value = libipld.decode_dag_cbor(block)
        is_canonical = libipld.encode_dag_cbor(value) == block
    except (ValueError, OverflowError, RecursionError, UnicodeError) as error:
        raise Defect(reason, f"a block is not DAG-CBOR: {error}") from error
    if not is_canonical:
        raise Defect(reason, "a block is not in DAG-CBOR's one canonical form")
    return value


def encode(value: Any) -> bytes:
    """The canonical block of a value."""
    return libipld.encode_dag_cbor(value)


def to_json(value: Any) -> Any:
    """The JSON form: links as `$link`, bytes as `$bytes`. Raises ValueError for what JSON cannot hold exactly."""
    match value:
        case dict():
            return {key: to_json(each) for key, each in value.items()}
        case list():
            return [to_json(each) for each in value]
        case bytes() if cid.is_supported(value):
            return {"$link": cid.to_text(value)}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode("ascii").rstrip("=")}
        case float():
            raise ValueError("a record has a number that is not an integer")
        case int() if abs(value) > LARGEST and not isinstance(value, bool):
            raise ValueError(f"{value} is too large for a number in JSON")
        case _:
            return value


def from_json(value: Any) -> Any:
    """The value of a JSON form. Raises ValueError for what is no form of data that the protocol has."""
    match value:
        case {"$link": str() as text, **others} if not others:
            return cid.from_text(text)
        case {"$bytes": str() as text, **others} if not others:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        case {"$link": _} | {"$bytes": _}:
            raise ValueError("a link or bytes have one field, with a text")
        case dict():
            _check_type(value)
            return {key: from_json(each) for key, each in value.items()}
        case list():
            return [from_json(each) for each in value]
        case float():
            if not value.is_integer():
                raise ValueError("a number is not an integer")
            return int(value)
        case _:
            return value


def _check_type(value: dict[str, Any]) -> None:
    if "$type" not in value:
        return
    kind = value["$type"]
    if not isinstance(kind, str) or not kind:
        raise ValueError("$type is not the name of a type")
    if kind == "blob":
        ref, size = value.get("ref"), value.get("size")
        is_blob = isinstance(ref, dict) and type(size) is int and isinstance(value.get("mimeType"), str)
        if not is_blob:
            raise ValueError("a blob has a link, a MIME type and a size")
