"""Request ids: UUID version 7 (RFC 9562, section 5.7), made once by the first sender of a request.

The first 48 bits are milliseconds since 1970-01-01 UTC. They decide whether an id is inside the horizon and
which journal partition it belongs to, so an id says by itself where its first attempt is to be found.
"""

import secrets
import uuid

HORIZON_MS = 24 * 3_600_000
"""How long the services remember an id; an older one is refused."""
AHEAD_MS = 5 * 60_000
"""How far the time in an id, or of an event, may be ahead of the services' clock."""
RANDOM_BYTES = 10
"""What holds the 74 bits of an id that are not its time."""

_VARIANT = 0b10 << 62
_VERSION = 7 << 76
_BITS = 74


def make_request_id(now_ms: int) -> uuid.UUID:
    """Make an id for a request first sent at `now_ms`, milliseconds since 1970-01-01 UTC."""
    return request_id_of(now_ms, secrets.randbits(_BITS))


def request_id_of(now_ms: int, bits: int) -> uuid.UUID:
    """The id of a request first sent at `now_ms`, with the low 74 of these bits in the place of random ones."""
    high, low = bits >> 62 & 0xFFF, bits & ((1 << 62) - 1)
    return uuid.UUID(int=(now_ms << 80) | _VERSION | (high << 64) | _VARIANT | low)


def first_id_of(ms: int) -> uuid.UUID:
    """The smallest 128-bit id whose time is `ms`: a bound for comparing, not an id to send."""
    return uuid.UUID(int=max(0, ms) << 80)


def time_ms_of(request_id: uuid.UUID) -> int:
    """When the id was made: milliseconds since 1970-01-01 UTC."""
    return request_id.int >> 80


def parse_request_id(text: str) -> uuid.UUID:
    """Read an id in its usual text form.

    Raises ValueError with a sentence for the caller when it is not a UUID version 7, written in its one usual way.
    """
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    # Other ways to write it would be other bytes, and so other content to the guard against an id used twice.
    if parsed is None or parsed.version is None or str(parsed) != text:
        raise ValueError(
            "must be a UUID version 7 in its usual text form, such as 01890a5d-ac96-774b-bcce-b302099a8057"
        )
    if parsed.version != 7:
        raise ValueError(
            f"is a UUID of version {parsed.version}; use version 7 (RFC 9562), which holds the time: "
            "the server refuses what is too old to be told from a repeat"
        )
    return parsed
