from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from tally.client import InvalidRequest
from tally.client._checks.times import from_timestamp, to_microseconds, to_timestamp

ZONES = st.integers(min_value=-12 * 60, max_value=14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
AWARE = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=ZONES,
)


@given(AWARE)
def test_a_time_comes_back_to_the_microsecond(time: datetime) -> None:
    timestamp = to_timestamp(time, "start")
    assert timestamp is not None
    assert from_timestamp(timestamp) == time
    assert 0 <= timestamp.nanos < 1_000_000_000


@given(AWARE)
def test_a_timestamp_is_the_one_that_protobuf_makes(time: datetime) -> None:
    expected = Timestamp()
    expected.FromDatetime(time)
    assert to_timestamp(time, "start") == expected


def test_microseconds_are_counted_from_1970_in_utc() -> None:
    two_hours_east = timezone(timedelta(hours=2))
    assert to_microseconds(datetime(1970, 1, 1, 2, 0, 0, 1, tzinfo=two_hours_east), "t") == 1
    assert to_microseconds(datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), "t") == -1_000_000


def test_no_time_stays_no_time() -> None:
    assert to_timestamp(None, "start") is None


def test_an_answer_is_in_utc() -> None:
    assert (
        from_timestamp(Timestamp(seconds=60, nanos=1_999)).isoformat() == "1970-01-01T00:01:00.000001+00:00"
    )


def test_a_naive_time_is_refused_with_the_way_to_mend_it() -> None:
    with pytest.raises(ValueError, match=r"^start: 2026-01-02T03:04:05 has no time zone") as raised:
        to_timestamp(datetime(2026, 1, 2, 3, 4, 5), "start")  # noqa: DTZ001 - a naive time is the point
    assert isinstance(raised.value, InvalidRequest)
    assert "replace(tzinfo=UTC)" in str(raised.value)
