"""Threads for handlers: calls that block, each with a time limit after which its thread is abandoned."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class TimeLimit(Exception):
    """The call did not return in time. Its thread continues, and its result is dropped."""


class Threads:
    """Runs each call in its own thread; counts the abandoned threads that have not returned since."""

    def __init__(self) -> None:
        self._abandoned: set[threading.Thread] = set()

    @property
    def abandoned_count(self) -> int:
        """Abandoned threads that still run."""
        self._abandoned = {thread for thread in self._abandoned if thread.is_alive()}
        return len(self._abandoned)

    async def run(self, call: Callable[[], T], limit_seconds: float) -> T:
        """What the call returns or raises. Raises TimeLimit after `limit_seconds`; a cancellation abandons it too."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - it is raised again in the waiting caller
                _post(loop, _fail, ended, error)
            else:
                _post(loop, _succeed, ended, result)

        # In the context of the caller, so that spans of the thread are children of the caller's.
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,), name="handler", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(limit_seconds):
                return await ended
        except TimeoutError:
            if ended.done() and not ended.cancelled():
                raise  # the call itself raised it
            raise TimeLimit(f"no end within {limit_seconds:g} s") from None
        finally:
            if not ended.done() or ended.cancelled():
                self._abandoned.add(thread)


def _post(loop: asyncio.AbstractEventLoop, tell: Callable[..., None], *values: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: the caller has ended
        loop.call_soon_threadsafe(tell, *values)


def _succeed(ended: "asyncio.Future[T]", result: T) -> None:
    if not ended.done():
        ended.set_result(result)


def _fail(ended: "asyncio.Future[T]", error: BaseException) -> None:
    if not ended.done():
        ended.set_exception(error)
