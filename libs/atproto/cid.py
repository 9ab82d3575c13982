"""Content identifiers: CIDv1, SHA-256, of DAG-CBOR or of raw bytes (https://atproto.com/specs/data-model#link-and-cid-formats)."""

import base64
import hashlib
import re

DAG_CBOR, RAW = 0x71, 0x55
LENGTH = 36
"""bytes of a CID in binary form"""

_HEAD = {codec: bytes((1, codec, 0x12, 0x20)) for codec in (DAG_CBOR, RAW)}
_SYNTAX = re.compile(r"[a-zA-Z0-9+=]{8,256}", re.ASCII)


def cid_of(data: bytes, codec: int = DAG_CBOR) -> bytes:
    """The CID of a block, in binary form."""
    return _HEAD[codec] + hashlib.sha256(data).digest()


def is_supported(cid: bytes) -> bool:
    """Whether it is a CID that the protocol allows: version 1, DAG-CBOR or raw, SHA-256."""
    return len(cid) == LENGTH and cid[:4] in _HEAD.values()


def is_dag_cbor(cid: bytes) -> bool:
    """Whether it is a supported CID of a DAG-CBOR block."""
    return len(cid) == LENGTH and cid[:4] == _HEAD[DAG_CBOR]


def to_text(cid: bytes) -> str:
    """The form in which JSON has it: base32 in lower case, with the prefix `b`."""
    return "b" + base64.b32encode(cid).decode("ascii").rstrip("=").lower()


def from_text(text: str) -> bytes:
    """The binary form. Raises ValueError when it is not a supported CID in base32."""
    if not text.startswith("b") or text != text.lower():
        raise ValueError(f"{text!r} is not a CID in base32")
    try:
        cid = base64.b32decode(text[1:].upper() + "=" * (-(len(text) - 1) % 8))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a CID in base32") from error
    if not is_supported(cid):
        raise ValueError(f"{text!r} is not a CIDv1 of DAG-CBOR or raw bytes by SHA-256")
    return cid


def has_cid_syntax(text: str) -> bool:
    """Whether it could be a CID of any kind, but for version 0."""
    return _SYNTAX.fullmatch(text) is not None and not text.startswith("Qmb")
