"""The time of a record (T002-40)."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.atproto.syntax import make_tid
from libs.dataset.event_time import EventTime, Source, event_time
from tally.contract.rules import EARLIEST_EVENT_US

REV_US = int(datetime(2025, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000
KEY_US = REV_US - 10_000_000
KEY = make_tid(KEY_US)


def test_created_at_counts_from_2000_to_the_time_of_the_rev() -> None:
    written = "2025-05-31T23:59:59.123456789Z"
    assert event_time(written, KEY, REV_US) == (REV_US - 876_544, Source.CREATED_AT)
    assert event_time("2000-01-01T00:00:00Z", KEY, REV_US) == (EARLIEST_EVENT_US, Source.CREATED_AT)
    assert event_time("2025-06-01T00:00:00Z", KEY, REV_US) == (REV_US, Source.CREATED_AT)
    assert event_time("2025-06-01T02:00:00+02:00", KEY, REV_US) == (REV_US, Source.CREATED_AT)


@pytest.mark.parametrize(
    "written",
    [
        None,
        7,
        "",
        "tomorrow",
        "1970-01-01T00:00:00Z",
        "1999-12-31T23:59:59Z",
        "2025-06-01T00:00:00.000001Z",
        {},
    ],
)
def test_else_the_time_in_the_key_counts_and_else_that_of_the_rev(written: object) -> None:
    assert event_time(written, KEY, REV_US) == (KEY_US, Source.KEY)
    for key in ("self", make_tid(REV_US + 1), make_tid(EARLIEST_EVENT_US - 1), "a:key"):
        assert event_time(written, key, REV_US) == (REV_US, Source.REV)


@given(
    st.one_of(st.none(), st.text(), st.datetimes().map(lambda at: at.isoformat() + "Z"), st.integers()),
    st.one_of(st.text(), st.integers(0, 2**53 - 1).map(make_tid)),
    st.integers(EARLIEST_EVENT_US, 2**52),
)
def test_every_record_has_a_time_that_tally_accepts(written: object, key: str, rev_us: int) -> None:
    found = event_time(written, key, rev_us)
    assert isinstance(found, EventTime)
    assert EARLIEST_EVENT_US <= found.time_us <= rev_us
