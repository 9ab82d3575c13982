"""What a quota allows, and how long a refusal closes it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.allowance import Limit, Use, allows, closing_after, payable_after
from tests.unit.libs.domain.batches import MODEST

PACIFIC = ZoneInfo("America/Los_Angeles")
RESET = datetime(2026, 3, 3, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@MODEST
@given(
    st.integers(2, 200),
    st.integers(0, 100),
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=60),
)
def test_no_sequence_of_payments_exceeds_the_limit_or_takes_the_protected_share(
    units: int, protected: int, payments: list[tuple[int, bool]]
) -> None:
    limit = Limit("q", units, min(protected, units), PACIFIC, 10.0)
    use = Use()
    for cost, forced in payments:
        if allows(limit, use, cost, forced=forced):
            use = Use(use.used + (0 if forced else cost), use.forced + (cost if forced else 0))
        assert use.used + use.forced <= units
        assert use.used <= units - limit.protected_units


@MODEST
@given(st.integers(2, 200), st.integers(1, 100), st.integers(0, 250))
def test_forced_work_always_has_its_protected_share(units: int, protected: int, asked: int) -> None:
    limit = Limit("q", units, min(protected, units), PACIFIC, 10.0)
    use = Use()
    for _ in range(asked):
        if allows(limit, use, 1, forced=False):
            use = Use(use.used + 1, 0)
    for _ in range(limit.protected_units):
        assert allows(limit, use, 1, forced=True)
        use = Use(use.used, use.forced + 1)


def test_a_day_that_is_used_up_is_left_a_minute_after_its_reset() -> None:
    """R000-09"""
    assert payable_after(datetime(2026, 3, 2).date(), PACIFIC) == RESET + MINUTE  # noqa: DTZ001 - a day has no zone


def test_a_refusal_in_the_middle_of_a_day_closes_until_its_reset() -> None:
    """R000-09"""
    paid_at = RESET - timedelta(hours=5)
    closing = closing_after(paid_at, paid_at + timedelta(seconds=2), PACIFIC, None, 0)
    assert closing is not None
    assert closing.until == RESET


def test_a_refusal_of_a_batch_paid_for_a_day_that_is_over_closes_nothing() -> None:
    """R000-09"""
    for minutes in (0, 3, 60):
        assert closing_after(RESET - 2 * MINUTE, RESET + minutes * MINUTE, PACIFIC, None, 0) is None


def test_refusals_within_five_minutes_of_a_reset_close_for_a_minute_doubling() -> None:
    """R000-09"""
    day, times, lasts = None, 0, []
    now = RESET + timedelta(seconds=10)
    for _ in range(3):
        closing = closing_after(now, now, PACIFIC, day, times)
        assert closing is not None
        lasts.append(closing.until - now)
        day, times = closing.day, closing.times
        now += timedelta(seconds=70)
    assert lasts == [MINUTE, 2 * MINUTE, 4 * MINUTE]
    closing = closing_after(now + DAY_LATER, now + DAY_LATER, PACIFIC, day, times)
    assert closing is not None
    assert closing.until - now - DAY_LATER == MINUTE  # another day begins anew


DAY_LATER = timedelta(days=1)
