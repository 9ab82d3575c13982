"""Page tokens: the query's fingerprint, the version of the order, and a place in it; with a checksum against damage.

No ordinal is in it, so any replica can go on. It is not secret, and a caller who makes one gets a page that the viewer
may see.
"""

import base64
import binascii
import struct

import xxhash

from services.catalog.query import Cursor
from tally.contract.errors import InvalidRequest, Violation

_FORM = struct.Struct(">BQqdq")
_SUM = struct.Struct(">I")
_VERSION = 1


def write_token(fingerprint: int, cursor: Cursor) -> str:
    """The token of a place behind a page."""
    body = _FORM.pack(_VERSION, fingerprint, cursor.version, *cursor.place)
    return base64.urlsafe_b64encode(body + _sum(body)).decode().rstrip("=")


def read_token(token: str, fingerprint: int) -> Cursor | None:
    """The place of a token; None for the empty one. Raises InvalidRequest."""
    if not token:
        return None
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refusal("is damaged") from error
    body = data[: _FORM.size]
    if len(data) != _FORM.size + _SUM.size or data[_FORM.size :] != _sum(body) or body[0] != _VERSION:
        raise _refusal("is damaged")
    _, of, version, score, packed = _FORM.unpack(body)
    if of != fingerprint:
        raise _refusal("belongs to another query")
    return Cursor(version, (score, packed))


def _sum(body: bytes) -> bytes:
    return _SUM.pack(xxhash.xxh32_intdigest(body))


def _refusal(what: str) -> InvalidRequest:
    return InvalidRequest(
        [
            Violation(
                "page_token", f"{what}; send the `next_page_token` of the page before, with the same query"
            )
        ]
    )
