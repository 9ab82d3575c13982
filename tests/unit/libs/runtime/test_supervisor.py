"""What dies is started again, what is stopped stays stopped, and what cannot live waits longer each time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.runtime.supervisor import (
    FIRST_PAUSE_SECONDS,
    LONG_LIFE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Died,
    Supervisor,
    pause_after,
)
from tally.contract.errors import NotReady
from tests.support.eventually import eventually


class Time:
    """A clock that the test turns, and sleeps that it counts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Lives:
    """A child that lives until it is told to die, and writes down what happens to it."""

    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self.journal = journal
        self.is_able = True
        self.began = 0
        self.died: Died = lambda _: None

    @asynccontextmanager
    async def open(self, died: Died) -> AsyncIterator[int]:
        self.began += 1
        if not self.is_able:
            raise NotReady(f"{self.name} cannot start.")
        self.died = died
        try:
            yield 1000 + self.began
        finally:
            await asyncio.sleep(0)  # a stop takes a moment
            self.journal.append(f"{self.name} ended")

    def die(self) -> None:
        self.died(f"{self.name} died.")

    async def until_life(self, number: int) -> None:
        async def is_there() -> bool:
            return self.began >= number

        await eventually(is_there)


class Stage:
    """A supervisor with a child, and what it says."""

    def __init__(self) -> None:
        self.time = Time()
        self.told: list[str] = []
        self.journal: list[str] = []
        self.supervisor = Supervisor(
            lambda _, what: self.told.append(what), clock=self.time.clock, sleep=self.time.sleep
        )

    def add(self, name: str) -> Lives:
        lives = Lives(name, self.journal)
        self.supervisor.add(name, lives.open)
        return lives


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_what_dies_is_started_again_and_it_is_told_why(stage: Stage) -> None:
    lives = stage.add("a")
    await stage.supervisor.start("a")
    child = stage.supervisor.children["a"]
    assert (child.pid, child.restarts) == (1001, 0)
    stage.time.now = LONG_LIFE_SECONDS
    lives.die()
    await lives.until_life(2)
    await child.ready.wait()
    assert (child.pid, child.restarts) == (1002, 1)
    assert stage.told == ["a died. It is started again.", "a is back, pid 1002."]
    await stage.supervisor.stop("a")


async def test_who_dies_early_again_and_again_waits_longer_each_time_and_a_long_life_forgives(
    stage: Stage,
) -> None:
    lives = stage.add("a")
    await stage.supervisor.start("a")
    for life in range(2, 5):
        await stage.supervisor.children["a"].ready.wait()
        lives.die()
        await lives.until_life(life)
    assert stage.time.pauses == [FIRST_PAUSE_SECONDS * 2**n for n in range(3)]
    await stage.supervisor.children["a"].ready.wait()
    stage.time.now += LONG_LIFE_SECONDS
    lives.die()
    await lives.until_life(5)
    assert stage.time.pauses[-1] == 0
    await stage.supervisor.stop("a")


async def test_a_start_that_fails_later_is_tried_until_it_succeeds(stage: Stage) -> None:
    lives = stage.add("a")
    await stage.supervisor.start("a")
    lives.is_able = False
    lives.die()
    await lives.until_life(4)
    lives.is_able = True
    await stage.supervisor.children["a"].ready.wait()
    assert "a cannot start. It is started again in 0.5 s." in stage.told
    assert stage.told[-1].startswith("a is back")
    await stage.supervisor.stop("a")


async def test_a_child_is_started_again_whatever_went_wrong_and_whoever_listens_no_more() -> None:
    heard: list[str] = []

    def listen(_: str, what: str) -> None:
        heard.append(what)
        raise BrokenPipeError("nobody reads this any more")

    class Falters(Lives):
        @asynccontextmanager
        async def open(self, died: Died) -> AsyncIterator[int]:
            if self.began == 1:
                self.began += 1
                raise ValueError("a life that nobody foresaw")
            async with super().open(died) as pid:
                yield pid

    time, child = Time(), Falters("counting-0", [])
    supervisor = Supervisor(listen, clock=time.clock, sleep=time.sleep)
    supervisor.add(child.name, child.open)
    await supervisor.start(child.name)
    child.die()
    await child.until_life(3)
    await supervisor.stop(child.name)
    assert "a life that nobody foresaw" in "".join(heard)


async def test_the_first_start_is_tried_once_and_its_failure_is_the_callers(stage: Stage) -> None:
    lives = stage.add("a")
    lives.is_able = False
    with pytest.raises(NotReady, match="a cannot start"):
        await stage.supervisor.start("a")
    assert (lives.began, stage.time.pauses) == (1, [])
    lives.is_able = True
    await stage.supervisor.start("a")  # when the reason is gone
    await stage.supervisor.stop("a")


async def test_what_is_stopped_on_purpose_stays_stopped_and_can_be_started(stage: Stage) -> None:
    lives = stage.add("a")
    await stage.supervisor.start("a")
    await stage.supervisor.stop("a")
    assert (stage.journal, stage.told) == (["a ended"], [])
    lives.die()  # the last word of a process that was asked to end
    await asyncio.sleep(0)
    assert lives.began == 1
    await stage.supervisor.start("a")
    assert stage.supervisor.children["a"].restarts == 0
    await stage.supervisor.stop("a")


async def test_a_stop_while_it_waits_for_the_next_start_ends_the_waiting(stage: Stage) -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    supervisor = Supervisor(lambda *_: None, clock=stage.time.clock, sleep=sleep)
    lives = Lives("a", stage.journal)
    supervisor.add("a", lives.open)
    await supervisor.start("a")
    lives.die()
    await waiting.wait()
    await supervisor.stop("a")
    assert lives.began == 1


async def test_several_are_stopped_together(stage: Stage) -> None:
    for name in ("one", "two"):
        stage.add(name)
        await stage.supervisor.start(name)
    await stage.supervisor.stop_together(["one", "two"])
    assert sorted(stage.journal) == ["one ended", "two ended"]


async def test_a_signal_for_a_child_that_is_not_there_is_refused(stage: Stage) -> None:
    lives = stage.add("a")
    with pytest.raises(NotReady, match="a does not run now; start it first"):
        stage.supervisor.kill("a")
    await stage.supervisor.start("a")
    lives.is_able = False
    lives.die()
    await lives.until_life(3)
    with pytest.raises(NotReady, match="a does not run now; wait until it is started again"):
        stage.supervisor.kill("a")
    await stage.supervisor.stop("a")


def test_pauses_double_up_to_a_limit() -> None:
    assert [pause_after(n) for n in range(4)] == [0.0, 0.25, 0.5, 1.0]
    assert pause_after(1_000_000) == LONGEST_PAUSE_SECONDS
