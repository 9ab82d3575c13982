"""Instants: google.protobuf.Timestamp ↔ microseconds since 1970-01-01 UTC."""

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tally.contract.errors import InvalidRequest, Violation

_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799
_NANOS = 1_000_000_000


def read_time(message: Message, field: str, path: str, *, finer_is_later: bool = False) -> int | None:
    """A field of a message; None if it is absent. Raises InvalidRequest.

    What is finer than a microsecond is cut off, or taken up to the next one with `finer_is_later`.
    """
    if not message.HasField(field):
        return None
    time: Timestamp = getattr(message, field)
    if not _MIN_SECONDS <= time.seconds <= _MAX_SECONDS or not 0 <= time.nanos < _NANOS:
        raise InvalidRequest([Violation(path, "must be a time between the years 1 and 9999")])
    micros, rest = divmod(time.nanos, 1000)
    return time.seconds * 1_000_000 + micros + (1 if finer_is_later and rest else 0)


def write_time(time_us: int) -> Timestamp:
    """The message of an instant."""
    seconds, micros = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)
