from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.cli.failure import USAGE, Failure
from services.cli.times import of_unix_seconds, parse_option, parse_time

NOON = datetime(2017, 10, 9, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2017-10-09T12:00:00Z",
        "2017-10-09 12:00",
        "2017-10-09T14:00:00+02:00",
        "20171009T120000Z",
        "1507550400",
        " 1507550400.0 ",
    ],
)
def test_a_time_is_iso_8601_or_unix_seconds(text: str) -> None:
    time = parse_time(text)
    assert time == NOON
    assert time.tzinfo is not None


def test_a_day_alone_is_its_midnight_in_utc() -> None:
    assert parse_time("2017-10-09") == NOON - timedelta(hours=12)


def test_a_zone_is_kept() -> None:
    assert parse_time("2017-10-09T14:00+02:00").tzinfo == timezone(timedelta(hours=2))


def test_unix_seconds_hold_microseconds_and_may_be_before_1970() -> None:
    assert of_unix_seconds(1507550400.000001) == NOON + timedelta(microseconds=1)
    assert parse_time("-1.5") == datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2017-13-01", "12:00", "nan", "1e9", "1_000"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write 2017-10-09T12:30:00Z"):
        parse_time(text)


def test_milliseconds_are_told_from_seconds() -> None:
    with pytest.raises(ValueError, match="are they milliseconds"):
        parse_time("1507550400000")


def test_an_option_is_named_when_it_is_wrong() -> None:
    assert parse_option(None, "--from") is None
    with pytest.raises(Failure, match=r"^--from: 'x' is no time") as raised:
        parse_option("x", "--from")
    assert raised.value.exit_code == USAGE
