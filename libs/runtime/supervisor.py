"""Child processes that are restarted when they die.

A child is given by how it is opened: an async context manager that starts a process, waits until it is ready and
yields its pid; leaving it stops the process in order. It is handed a function to call if the process ends by itself.

What dies is started again: at once if it had lived long enough, else after a pause that doubles, so that a child
that cannot live does not use up the machine. What is stopped on purpose stays stopped. The first start is the
caller's affair: if it fails, the caller is told and nothing is tried again.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress

from tally.contract.backoff import Backoff
from tally.contract.errors import NotReady

LONG_LIFE_SECONDS = 10.0
"""A child that lived at least this long did not fail at its start."""
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0

Died = Callable[[str], None]
"""called with a sentence about a process that ended unexpectedly"""
Open = Callable[[Died], AbstractAsyncContextManager[int]]
"""opens a child: ready when it is entered, stopped when it is left; yields the pid; raises NotReady"""
Tell = Callable[[str, str], None]
"""called with the name of a child and a sentence about its new state"""


def pause_after(early_deaths: int) -> float:
    """Seconds to wait before the next start, after this number of consecutive short lives."""
    if early_deaths == 0:
        return 0.0
    return Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS).cap_s(early_deaths - 1)


class Child:
    """One process that is to be there, life after life."""

    def __init__(self, name: str, open_child: Open) -> None:
        self.name = name
        self.open = open_child
        self.pid: int | None = None
        """of the life that is ready now; None between two lives and while it is stopped"""
        self.restarts = 0
        """lives that began because the one before had died"""
        self.ready = asyncio.Event()
        self.keeper: asyncio.Task[None] | None = None
        self.turn = asyncio.Lock()
        """one start or stop at a time"""

    @property
    def is_wanted(self) -> bool:
        """Whether it was started and not stopped since."""
        return self.keeper is not None


class Supervisor:
    """Keeps children alive. All of it happens in one event loop, in the main thread."""

    def __init__(
        self,
        tell: Tell,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.children: dict[str, Child] = {}
        self._tell = tell
        self._clock = clock
        self._sleep = sleep

    def add(self, name: str, open_child: Open) -> Child:
        """Make a child known; it is not started."""
        return self.children.setdefault(name, Child(name, open_child))

    async def start(self, name: str) -> None:
        """Start a child that is stopped, and wait until it is ready. Raises NotReady when it cannot start."""
        child = self.children[name]
        async with child.turn:
            if child.is_wanted:
                return
            started = asyncio.Event()
            keeper = child.keeper = asyncio.create_task(self._keep(child, started), name=f"keeper of {name}")
            waiting = asyncio.create_task(started.wait())
            try:
                await asyncio.wait({keeper, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if not started.is_set():
                    await keeper
            finally:
                waiting.cancel()
                if not started.is_set():
                    await self._end(child)

    async def stop(self, name: str) -> None:
        """Stop a child gracefully, and leave it stopped."""
        child = self.children[name]
        async with child.turn:
            await self._end(child)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a child a signal. Raises NotReady when there is no process to send it to.

        After SIGKILL it is not ready until it has been started again.
        """
        child = self.children[name]
        if child.pid is None:
            then = "wait until it is started again" if child.is_wanted else "start it first"
            raise NotReady(f"{name} does not run now; {then}")
        os.kill(child.pid, number)
        if number == signal.SIGKILL:
            child.pid = None
            child.ready.clear()

    async def stop_together(self, names: Iterable[str]) -> None:
        """Stop several at the same time."""
        await asyncio.gather(*(self.stop(name) for name in names))

    async def _keep(self, child: Child, started: asyncio.Event) -> None:
        early_deaths = 0
        while True:
            began = self._clock()
            try:
                why = await self._live(child, started)
                is_long = self._clock() - began >= LONG_LIFE_SECONDS
            except Exception as error:  # whatever it was, the child is to be there
                if not started.is_set():
                    raise
                why, is_long = str(error) or repr(error), False
            early_deaths = 0 if is_long else early_deaths + 1
            pause = pause_after(early_deaths)
            then = f"It is started again{f' in {pause:g} s' if pause else ''}."
            separator = "\n" if "\n" in why else " "  # the end of a log has lines of its own
            self._say(child.name, f"{why}{separator}{then}")
            await self._sleep(pause)
            child.restarts += 1

    async def _live(self, child: Child, started: asyncio.Event) -> str:
        """One life, from its start to its end; why it ended. Raises NotReady if it never began."""
        died: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def note(why: str) -> None:
            if not died.done():
                died.set_result(why)

        async with child.open(note) as pid:
            child.pid = pid
            child.ready.set()
            if started.is_set():
                self._say(child.name, f"{child.name} is back, pid {pid}.")
            started.set()
            try:
                return await died
            finally:
                child.pid = None
                child.ready.clear()

    def _say(self, name: str, what: str) -> None:
        with suppress(Exception):  # the listener may have ended, and the child must still be supervised
            self._tell(name, what)

    async def _end(self, child: Child) -> None:
        if child.keeper is None:
            return
        keeper, child.keeper = child.keeper, None
        keeper.cancel()
        await asyncio.wait({keeper})
