"""Conversion of times: timezone-aware datetimes in the api, microseconds and protobuf timestamps on the wire."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from tally.client._checks.wrong_type import wrong_type
from tally.contract.errors import InvalidRequest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(time: datetime, field: str) -> int:
    """Microseconds since 1970-01-01 UTC, exactly. `field` names the value in the error.

    Raises InvalidRequest, which is a ValueError, for a time without a zone, and for what is no datetime.
    """
    if not isinstance(time, datetime):
        raise wrong_type(field, "a datetime with a time zone, such as datetime.now(UTC)", time)
    if time.utcoffset() is None:
        raise InvalidRequest.of(
            field,
            f"{time.isoformat()} has no time zone, so it is not one moment. Make it with datetime.now(UTC), "
            "or add the zone: time.replace(tzinfo=UTC) if it is in UTC, time.astimezone() if it is local",
        )
    return (time - EPOCH) // _MICROSECOND


def to_timestamp(time: datetime | None, field: str) -> Timestamp | None:
    """The same as a protobuf timestamp; None stays None, the field is then left out."""
    if time is None:
        return None
    seconds, microseconds = divmod(to_microseconds(time, field), 1_000_000)
    return Timestamp(seconds=seconds, nanos=microseconds * 1_000)


def from_timestamp(timestamp: Timestamp) -> datetime:
    """An aware datetime in UTC; what is finer than a microsecond is cut off."""
    return EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000)
