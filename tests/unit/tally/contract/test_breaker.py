"""The circuit breaker, under time that the test turns and callers that come at once."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tally.contract.breaker import Breaker, BreakerState
from tally.contract.errors import InvalidRequest, Unavailable, Violation
from tests.support.clock import Clock


class Target:
    """Something to call, whose outcome the test decides: an error, or None for success."""

    def __init__(self) -> None:
        self.error: Exception | None = ConnectionError("away")
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "well"


class Held:
    """A call that goes on until the test ends it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun.set()
        return await self.outcome


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def changes() -> list[tuple[str, BreakerState, BreakerState]]:
    return []


@pytest.fixture
def breaker(clock: Clock, changes: list[tuple[str, BreakerState, BreakerState]]) -> Breaker:
    return Breaker(
        "counting-0",
        failures=3,
        reset_after_s=10,
        is_failure=lambda error: isinstance(error, ConnectionError),
        now=clock.monotonic,
        on_change=lambda name, old, new: changes.append((name, old, new)),
    )


def state_of(breaker: Breaker) -> BreakerState:
    """A function, because mypy would take two looks at one attribute for the same."""
    return breaker.state


async def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            await breaker.call(Target())


async def refused(breaker: Breaker, function: Callable[[], Awaitable[str]]) -> str:
    with pytest.raises(Unavailable) as caught:
        await breaker.call(function)
    return caught.value.message


async def test_it_opens_after_that_many_failures_in_a_row_and_names_the_target(breaker: Breaker) -> None:
    await fail(breaker, 3)
    assert state_of(breaker) is BreakerState.OPEN
    target = Target()
    message = await refused(breaker, target)
    assert "counting-0" in message
    assert "10.0 s" in message
    assert target.calls == 0


async def test_a_success_between_failures_starts_the_count_again(breaker: Breaker) -> None:
    await fail(breaker, 2)
    target = Target()
    target.error = None
    assert await breaker.call(target) == "well"
    await fail(breaker, 2)
    assert state_of(breaker) is BreakerState.CLOSED


async def test_an_answer_that_refuses_the_request_does_not_speak_against_the_target(breaker: Breaker) -> None:
    target = Target()
    target.error = InvalidRequest([Violation("video_id", "missing")])
    for _ in range(5):
        with pytest.raises(InvalidRequest):
            await breaker.call(target)
    assert state_of(breaker) is BreakerState.CLOSED


async def test_after_the_reset_time_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    await fail(breaker, 3)
    clock.seconds += 9.9
    target = Target()
    target.error = None
    await refused(breaker, target)
    clock.seconds += 0.1
    assert await breaker.call(target) == "well"
    assert state_of(breaker) is BreakerState.CLOSED


async def test_a_probe_that_fails_opens_it_for_the_whole_time_again(breaker: Breaker, clock: Clock) -> None:
    await fail(breaker, 3)
    clock.seconds += 10
    await fail(breaker, 1)
    assert state_of(breaker) is BreakerState.OPEN
    clock.seconds += 9
    assert "1.0 s" in await refused(breaker, Target())


async def test_half_open_lets_exactly_one_of_many_callers_in(breaker: Breaker, clock: Clock) -> None:
    await fail(breaker, 3)
    clock.seconds += 10
    held = Held()
    probe = asyncio.create_task(breaker.call(held))
    await held.begun.wait()
    others = [Target() for _ in range(20)]
    outcomes = await asyncio.gather(*(breaker.call(other) for other in others), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert sum(other.calls for other in others) == 0
    assert state_of(breaker) is BreakerState.HALF_OPEN
    held.outcome.set_result("well")
    assert await probe == "well"
    assert state_of(breaker) is BreakerState.CLOSED


async def test_a_cancelled_probe_proves_nothing_and_gives_its_place_to_the_next(
    breaker: Breaker, clock: Clock
) -> None:
    await fail(breaker, 3)
    clock.seconds += 10
    held = Held()
    probe = asyncio.create_task(breaker.call(held))
    await held.begun.wait()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert state_of(breaker) is BreakerState.HALF_OPEN
    target = Target()
    target.error = None
    assert await breaker.call(target) == "well"
    assert state_of(breaker) is BreakerState.CLOSED


async def test_cancelled_calls_are_no_failures(breaker: Breaker) -> None:
    for _ in range(5):
        held = Held()
        call = asyncio.create_task(breaker.call(held))
        await held.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert state_of(breaker) is BreakerState.CLOSED
    await fail(breaker, 2)
    assert state_of(breaker) is BreakerState.CLOSED


async def test_an_error_that_says_nothing_is_neither_failure_nor_success(
    breaker: Breaker, clock: Clock
) -> None:
    async def say_nothing() -> None:
        with pytest.raises(ConnectionError):
            await breaker.call(Target(), silent=(ConnectionError,))

    for _ in range(5):
        await say_nothing()
    assert state_of(breaker) is BreakerState.CLOSED
    await fail(breaker, 2)
    await say_nothing()
    await fail(breaker, 1)
    assert state_of(breaker) is BreakerState.OPEN
    clock.seconds += 10
    await say_nothing()
    assert state_of(breaker) is BreakerState.HALF_OPEN


@pytest.mark.parametrize("succeeds", [True, False])
async def test_a_call_from_before_it_opened_does_not_decide_the_probe(
    breaker: Breaker, clock: Clock, succeeds: bool
) -> None:
    old, held = Held(), Held()
    old_call = asyncio.create_task(breaker.call(old))
    await old.begun.wait()
    await fail(breaker, 3)
    clock.seconds += 10
    probe = asyncio.create_task(breaker.call(held))
    await held.begun.wait()
    if succeeds:
        old.outcome.set_result("late")
        assert await old_call == "late"
    else:
        old.outcome.set_exception(ConnectionError("late"))
        with pytest.raises(ConnectionError):
            await old_call
    assert state_of(breaker) is BreakerState.HALF_OPEN
    await refused(breaker, Target())
    held.outcome.set_result("well")
    await probe
    assert state_of(breaker) is BreakerState.CLOSED


async def test_calls_at_once_that_fail_open_it_once(
    breaker: Breaker, changes: list[tuple[str, BreakerState, BreakerState]]
) -> None:
    await asyncio.gather(*(breaker.call(Target()) for _ in range(10)), return_exceptions=True)
    assert changes == [("counting-0", BreakerState.CLOSED, BreakerState.OPEN)]


async def test_each_change_is_told_in_order(
    breaker: Breaker, clock: Clock, changes: list[tuple[str, BreakerState, BreakerState]]
) -> None:
    await fail(breaker, 3)
    clock.seconds += 10
    target = Target()
    target.error = None
    await breaker.call(target)
    assert [(old, new) for _, old, new in changes] == [
        (BreakerState.CLOSED, BreakerState.OPEN),
        (BreakerState.OPEN, BreakerState.HALF_OPEN),
        (BreakerState.HALF_OPEN, BreakerState.CLOSED),
    ]


async def test_an_error_that_went_through_is_not_kept_with_its_frames(breaker: Breaker) -> None:
    held: list[weakref.ref[Target]] = []

    async def fail() -> None:
        in_frame = Target()
        held.append(weakref.ref(in_frame))
        raise ConnectionError("away")

    gc.collect()
    gc.disable()
    try:
        with suppress(ConnectionError):
            await breaker.call(fail)
        assert [each() for each in held] == [None]
    finally:
        gc.enable()
