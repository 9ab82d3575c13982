"""Loops of a process: a death is noticed, and an end that somebody asked for is none."""

import asyncio

import pytest

from libs.runtime.background import Background, LoopDied, open_background
from tally.contract.errors import NotReady


async def for_ever() -> None:
    await asyncio.Event().wait()


async def die() -> None:
    raise ValueError("the disk is gone")


async def return_at_once() -> None:
    return


def is_alive(background: Background) -> bool:
    """A function, because mypy would take two looks at one attribute for the same."""
    return background.is_alive


async def test_a_loop_that_dies_is_noticed_with_its_name_and_cause() -> None:
    async with open_background() as background:
        background.start("well", for_ever())
        watching = asyncio.create_task(background.watch())
        await asyncio.sleep(0)
        assert is_alive(background)
        assert not watching.done()
        background.start("upkeep", die())
        with pytest.raises(LoopDied, match=r"^upkeep ended: ValueError\('the disk is gone'\)$") as caught:
            await watching
        assert isinstance(caught.value.__cause__, ValueError)
        assert not is_alive(background)


async def test_what_is_meant_for_people_is_told_in_its_own_words() -> None:
    async def tell() -> None:
        raise NotReady("the disk is full:\n  /data")

    async with open_background() as background:
        background.start("upkeep", tell())
        with pytest.raises(LoopDied, match=r"^upkeep ended: the disk is full:\n  /data$"):
            await background.watch()


async def test_who_watches_late_still_hears_of_it() -> None:
    async with open_background() as background:
        await asyncio.wait({background.start("upkeep", die())})
        for _ in range(2):
            with pytest.raises(LoopDied, match=r"^upkeep"):
                await background.watch()


async def test_the_first_death_is_the_one_that_is_told() -> None:
    async with open_background() as background:
        await asyncio.wait({background.start("first", die())})
        await asyncio.wait({background.start("second", die())})
        with pytest.raises(LoopDied, match=r"^first"):
            await background.watch()


async def test_a_loop_that_is_cancelled_or_returns_has_not_died() -> None:
    async with open_background() as background:
        cancelled = background.start("cancelled", for_ever())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled, background.start("done", return_at_once())})
        assert is_alive(background)


async def test_who_stops_watching_stops_nothing() -> None:
    async with open_background() as background:
        watching = asyncio.create_task(background.watch())
        await asyncio.sleep(0)
        watching.cancel()
        await asyncio.wait({watching})
        await asyncio.wait({background.start("upkeep", die())})
        with pytest.raises(LoopDied):
            await background.watch()


async def test_leaving_ends_the_loops_and_waits_until_they_have_cleaned_up() -> None:
    cleaned = []

    async def tidy() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    async with open_background() as background:
        loops = [background.start(f"loop {n}", tidy()) for n in range(2)]
        await asyncio.sleep(0)
    assert cleaned == ["up", "up"]
    assert all(loop.cancelled() for loop in loops)
    assert is_alive(background)


async def test_a_process_that_fails_ends_its_loops_too() -> None:
    loops = []

    async def fail() -> None:
        async with open_background() as background:
            loops.append(background.start("loop", for_ever()))
            raise RuntimeError("the process")

    with pytest.raises(RuntimeError, match="the process"):
        await fail()
    assert [loop.cancelled() for loop in loops] == [True]
