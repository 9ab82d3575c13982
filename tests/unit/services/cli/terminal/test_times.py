from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.terminal.failure import USAGE, Failure
from services.cli.terminal.times import of_number, parse_option, parse_range, parse_time

NOON = datetime(2017, 10, 9, 12, tzinfo=UTC)
MIDNIGHT = NOON - timedelta(hours=12)


@pytest.mark.parametrize(
    "text",
    [
        "2017-10-09T12:00:00Z",
        "2017-10-09t12:00:00Z",
        "2017-10-09 12:00",
        "2017-10-09T14:00:00+02:00",
        "20171009T120000Z",
        "20171009T1200",
        "2017-W41-1T12:00",
        "1507550400",
        " 1507550400.0 ",
        "1507550400s",
        "1507550400000",
        "1507550400000 ms",
        "1507550400000000",
        "1507550400000000us",
    ],
)
def test_a_time_is_iso_8601_or_a_number_since_1970(text: str) -> None:
    time = parse_time(text)
    assert time == NOON
    assert time.tzinfo is not None


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("2017-10-09", MIDNIGHT),
        ("20171009", MIDNIGHT),
        ("20241210", datetime(2024, 12, 10, tzinfo=UTC)),
        ("2024-12", datetime(2024, 12, 1, tzinfo=UTC)),
        ("2024", datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_year_a_month_or_a_day_is_its_beginning_in_utc(text: str, beginning: datetime) -> None:
    assert parse_time(text) == beginning


def test_a_zone_is_kept() -> None:
    assert parse_time("2017-10-09T14:00+02:00").tzinfo == timezone(timedelta(hours=2))


def test_a_number_holds_microseconds_and_with_a_unit_it_may_be_of_any_size() -> None:
    assert of_number(1507550400.000001) == NOON + timedelta(microseconds=1)
    assert parse_time("1507550400000.001") == NOON + timedelta(microseconds=1)
    assert parse_time("-1.5s") == datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)
    assert parse_time("20241210s") == datetime(1970, 8, 23, 6, 33, 30, tzinfo=UTC)
    assert parse_time("0ms") == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2017-13-01", "20171301", "99999999", "0000", "12:00", "nan", "1e9", "1_000"),
        *(
            "2017-10-09x12:00",
            "2017-10-09-05:00",
            "\u0661\u0665\u0660\u0667\u0665\u0665\u0660\u0664\u0660\u0660",
        ),
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write 2017-10-09T12:30:00Z"):
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    [
        *("0", "1", "-1507550400", "201712", "2017345", "946684799", "4102444800", "20241210123000"),
        *("946684799999", "4102444800000", "150755040000000000000"),
    ],
)
def test_a_number_that_has_no_unit_and_no_plausible_size_is_refused(text: str) -> None:
    """It would be read as some time of 1970, of which there are no events: the answer 0 looks like a right one."""
    with pytest.raises(ValueError, match=r"is no time between 2000 and 2100.*with its unit: 1507552200s"):
        parse_time(text)


@pytest.mark.parametrize("number", [20241210.0, 2024.0, 0.0, -5.0, 1e300, float("inf"), float("nan")])
def test_a_number_of_a_file_is_no_date(number: float) -> None:
    with pytest.raises(ValueError, match="is no time between 2000 and 2100"):
        of_number(number)


def test_a_time_beyond_the_calendar_is_refused() -> None:
    for text in ("9" * 30 + "s", "-99999999999999ms"):
        with pytest.raises(ValueError, match="is after the year 9999, or before the year 1"):
            parse_time(text)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))  # noqa: DTZ001 - what hypothesis takes
def test_a_plausible_number_is_read_in_its_own_unit(time: datetime) -> None:
    time = time.replace(tzinfo=UTC)
    us = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_time(str(us)) == time
    assert parse_time(str(us // 1_000)) == time.replace(microsecond=time.microsecond // 1_000 * 1_000)
    assert parse_time(str(us // 1_000_000)) == time.replace(microsecond=0)


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_time(text).tzinfo is not None


def test_an_option_is_named_when_it_is_wrong() -> None:
    assert parse_option(None, "--from") is None
    with pytest.raises(Failure, match=r"^--from: 'x' is no time") as raised:
        parse_option("x", "--from")
    assert raised.value.exit_code == USAGE
    with pytest.raises(Failure, match=r"^--from: 5 is no time between 2000 and 2100"):
        parse_range("5", None)
