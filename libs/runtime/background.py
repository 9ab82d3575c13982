"""Loops that run while a service is open. If one dies, the process fails, not a single call."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tally.contract.errors import TallyError


class LoopDied(Exception):
    """A background loop ended with an error; the process must end too."""


class Background:
    """The background loops of a process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, name: str, loop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a loop until `stop`; its end without an error is its own affair."""
        task = asyncio.create_task(loop, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    @property
    def is_alive(self) -> bool:
        """Whether no loop has died."""
        return not self._died.done()

    async def watch(self) -> None:
        """Wait until a loop dies. Raises LoopDied."""
        await asyncio.shield(self._died)

    async def stop(self) -> None:
        """Cancel the loops and wait for their end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._died.done():
            told = error.message if isinstance(error, TallyError) else repr(error)
            died = LoopDied(f"{task.get_name()} ended: {told}")
            died.__cause__ = error
            self._died.set_exception(died)
            self._died.exception()  # watched or not, it is no news at the end of the process


@asynccontextmanager
async def open_background() -> AsyncIterator[Background]:
    """Loops end when the context does."""
    background = Background()
    try:
        yield background
    finally:
        await background.stop()
