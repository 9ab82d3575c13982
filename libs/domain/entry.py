"""An entry: the part of one request that belongs to one partition, and its outcome."""

import uuid
from dataclasses import dataclass
from enum import IntEnum

from libs.domain.events import Events

MAX_TRACEPARENT_BYTES = 55
"""Length in version 00 (https://www.w3.org/TR/trace-context/#traceparent-header); a longer one is dropped."""


class Outcome(IntEnum):
    """The outcome of an entry. The numbers are those of `tally.counting.v1.Outcome`."""

    JOURNALED = 1
    DUPLICATE = 2
    BELOW_FLOOR = 3
    CONTENT_MISMATCH = 4
    INVALID = 5
    UNAVAILABLE = 6
    SPOOLED = 7


@dataclass(slots=True)  # not frozen, as Events
class Entry:
    """`(request_id, partition)` is its key; the same on every retry."""

    request_id: uuid.UUID
    partition: int
    request_hash: int
    """64 bits of the whole request's bytes, signed as Postgres's bigint holds them"""
    payload: bytes
    """a serialized EventColumns, kept in the journal as it is"""
    events: Events
    """what the payload says"""
    traceparent: str = ""
    """W3C trace context of the request; may be empty"""
    received_at_us: int | None = None
    """its first durable receipt, when it comes out of the spool; else it is received when it is inserted"""

    @property
    def size_bytes(self) -> int:
        """Its size for bounds of bytes."""
        return len(self.payload) + len(self.traceparent)


def signed(number: int) -> int:
    """64 bits, as Postgres's bigint holds them."""
    return number - (1 << 64) if number >= 1 << 63 else number


def unsigned(number: int) -> int:
    """The other way."""
    return number & ((1 << 64) - 1)
