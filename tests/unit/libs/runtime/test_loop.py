"""A background loop goes on while a store is away, and ends with its process for any other reason."""

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from libs.runtime.loop import Loop, Turn
from tests.support.virtual_time import in_virtual_time


class Turns:
    """Notes when each turn begins; `ends` says how each one ends, the last one all that follow."""

    def __init__(self, *ends: float | BaseException | None) -> None:
        self.begun: list[float] = []
        self._ends = ends

    async def __call__(self) -> float | None:
        self.begun.append(asyncio.get_running_loop().time())
        end = self._ends[min(len(self.begun), len(self._ends)) - 1]
        if isinstance(end, BaseException):
            raise end
        return end


def make_loop(turn: Turn, jitter: float = 0.0) -> Loop:
    return Loop("upkeep", turn, interval_seconds=10.0, deadline_seconds=3.0, retry_seconds=1.0, jitter=jitter)


async def run_for(loop: Loop, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await loop.run()


@in_virtual_time
async def test_a_turn_follows_at_the_interval_or_when_the_one_before_says() -> None:
    turns = Turns(None, 2.0, None)
    await run_for(make_loop(turns), 25.0)
    assert [time - turns.begun[0] for time in turns.begun] == [0.0, 10.0, 12.0, 22.0]


@in_virtual_time
async def test_a_store_that_is_away_is_tried_again_sooner_than_the_interval() -> None:
    turns = Turns(ConnectionError("refused"), OSError("gone"), None)
    await run_for(make_loop(turns), 5.0)
    assert [time - turns.begun[0] for time in turns.begun] == [0.0, 1.0, 2.0]


@in_virtual_time
async def test_of_failures_in_a_row_each_error_is_logged_once_and_the_success_that_ends_them() -> None:
    refused, gone = ConnectionError("refused"), OSError("gone")
    with capture_logs() as logs:
        await run_for(make_loop(Turns(None, refused, refused, refused, gone, None, None, refused)), 60.0)
    assert [(log["log_level"], log.get("error") or log["failures"]) for log in logs] == [
        ("warning", "refused"),
        ("warning", "gone"),
        ("info", 4),
        ("warning", "refused"),
    ]


@in_virtual_time
async def test_a_failure_that_lasts_is_logged_again_every_ten_minutes_as_an_error() -> None:
    with capture_logs() as logs:
        await run_for(make_loop(Turns(ConnectionError("refused"))), 1300.0)
    assert [(log["log_level"], log["error"], log["failures"]) for log in logs] == [
        ("warning", "refused", 1),
        ("error", "refused", 601),
        ("error", "refused", 1201),
    ]


@in_virtual_time
async def test_the_ten_minutes_begin_anew_with_a_success_and_go_on_with_another_error() -> None:
    refused, gone = ConnectionError("refused"), OSError("gone")
    turns = Turns(*[refused] * 500, None, *[refused] * 650, gone, None)
    with capture_logs() as logs:
        await run_for(make_loop(turns), 1200.0)
    assert [(log["log_level"], log.get("error"), log["failures"]) for log in logs] == [
        ("warning", "refused", 1),
        ("info", None, 500),
        ("warning", "refused", 1),
        ("error", "refused", 601),
        ("error", "gone", 651),
        ("info", None, 651),
    ]


class Held:
    """In a frame of a turn, as what it works on is."""


@in_virtual_time
async def test_a_turn_that_failed_keeps_nothing_of_what_it_held() -> None:
    held: list[weakref.ref[Held]] = []

    async def fail() -> None:
        in_frame = Held()
        held.append(weakref.ref(in_frame))
        raise OSError("gone")

    gc.collect()
    gc.disable()
    try:
        await run_for(make_loop(fail), 2.5)
        assert [each() for each in held] == [None] * 3
    finally:
        gc.enable()


@in_virtual_time
async def test_a_mistake_of_ours_ends_the_loop() -> None:
    with pytest.raises(KeyError):
        await make_loop(Turns(None, KeyError("no such column"))).run()


@in_virtual_time
async def test_a_turn_that_hangs_is_ended_at_its_deadline_and_tried_again() -> None:
    begun = []

    async def hang() -> None:
        begun.append(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    await run_for(make_loop(hang), 9.0)
    assert [time - begun[0] for time in begun] == [0.0, 4.0, 8.0]


@in_virtual_time
async def test_the_next_turn_waits_until_one_that_was_cancelled_has_ended() -> None:
    begun = []

    async def hang() -> None:
        begun.append(asyncio.get_running_loop().time())
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5.0)

    await run_for(make_loop(hang), 10.0)
    assert [time - begun[0] for time in begun] == [0.0, 9.0]
    await asyncio.sleep(10.0)


@in_virtual_time
async def test_a_turn_that_does_not_end_at_its_deadline_is_logged_then_and_once() -> None:
    may_end = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            if not running.cancelling():
                raise OSError("gone")

    with capture_logs() as logs:
        running = asyncio.create_task(make_loop(hang).run())
        for _ in range(2):
            await asyncio.sleep(3.5)
            assert [(log["error"], log["failures"]) for log in logs] == [
                ("not done within its deadline of 3 s", 1)
            ]
            may_end.set()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@in_virtual_time
async def test_it_can_be_woken_between_two_turns_and_during_one() -> None:
    turns = Turns(None)
    loop = make_loop(turns)
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(1.0)
    loop.wake()
    await asyncio.sleep(1.0)
    running.cancel()
    assert [time - turns.begun[0] for time in turns.begun] == [0.0, 1.0]
    with suppress(asyncio.CancelledError):
        await running


@in_virtual_time
async def test_jitter_only_shortens_pauses() -> None:
    turns = Turns(None)
    await run_for(make_loop(turns, jitter=0.5), 100.0)
    pauses = [later - earlier for earlier, later in zip(turns.begun, turns.begun[1:], strict=False)]
    assert all(5.0 <= pause <= 10.0 for pause in pauses)
    assert len(set(pauses)) > 1
