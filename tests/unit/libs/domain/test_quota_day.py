"""Days of a quota: 23, 24 or 25 hours of UTC."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.quota_day import charged_days, day_of, find_zone, reset_after, start_of
from tests.unit.libs.domain.batches import MODEST

PACIFIC = ZoneInfo("America/Los_Angeles")
# Among them zones whose clock skips or repeats midnight, and one that skipped a whole day.
ZONES = st.sampled_from(
    [
        ZoneInfo(name)
        for name in (
            "America/Los_Angeles",
            "UTC",
            "Europe/Berlin",
            "America/Sao_Paulo",
            "America/Havana",
            "Africa/Cairo",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Asia/Kathmandu",
        )
    ]
)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("day", "hours", "begins"),
    [
        (date(2026, 3, 7), 24, 8),
        (date(2026, 3, 8), 23, 8),
        (date(2026, 3, 9), 24, 7),
        (date(2026, 11, 1), 25, 7),
        (date(2026, 11, 2), 24, 8),
    ],
)
def test_a_pacific_day_has_23_to_25_hours(day: date, hours: int, begins: int) -> None:
    """T000-20"""
    start = start_of(day, PACIFIC)
    assert start == datetime(day.year, day.month, day.day, begins, tzinfo=UTC)
    assert reset_after(start, PACIFIC) - start == timedelta(hours=hours)


@MODEST
@given(TIMES, ZONES)
def test_a_time_is_in_its_day_and_before_its_reset(at: datetime, zone: ZoneInfo) -> None:
    day = day_of(at, zone)
    assert start_of(day, zone) <= at < reset_after(at, zone)
    assert day_of(start_of(day, zone), zone) == day
    assert day_of(reset_after(at, zone), zone) > day
    assert day_of(reset_after(at, zone) - timedelta(microseconds=1), zone) == day


@MODEST
@given(TIMES, ZONES)
def test_a_call_is_charged_to_two_days_within_a_minute_of_a_reset_and_else_to_one(
    at: datetime, zone: ZoneInfo
) -> None:
    """R000-09"""
    for reset in (start_of(day_of(at, zone), zone), reset_after(at, zone)):
        before, after = day_of(reset - MINUTE, zone), day_of(reset, zone)
        for seconds in (-60, -1, 0, 59):
            assert charged_days(reset + timedelta(seconds=seconds), zone) == [before, after]
        assert charged_days(reset + MINUTE, zone) == [after]
        assert charged_days(reset - MINUTE - timedelta(microseconds=1), zone) == [before]


@pytest.mark.parametrize(
    "name", ["", "Pacific", "America", "../etc", "/etc/localtime", "America/Nowhere", "a\0b"]
)
def test_what_is_no_zone_is_not_found(name: str) -> None:
    assert find_zone(name) is None


def test_zones_come_from_the_package_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim images have no zones."""
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    zoneinfo.reset_tzpath(to=())
    try:
        assert ZoneInfo.no_cache("America/Los_Angeles").utcoffset(datetime(2026, 1, 1)) == timedelta(hours=-8)  # noqa: DTZ001
    finally:
        zoneinfo.reset_tzpath()
