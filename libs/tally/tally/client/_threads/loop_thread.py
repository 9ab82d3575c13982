"""An event loop in its own thread, for callers without one. A fork does not get it."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from tally.client.errors import ClientUnusable

T = TypeVar("T")

_LOGGER = logging.getLogger("tally.client")


class LoopThread:
    """Runs coroutines for other threads until it is ended."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._is_ended = False
        self._fault: BaseException | None = None
        # Held from the check to the submission: what the loop is given before it ends, it still sees. A signal or the
        # garbage collector may come in meanwhile with a call of its own, hence the R.
        self._submitting = threading.RLock()
        self.kept: set[object] = set()
        """what the garbage collector must leave alone until the loop has ended it"""
        self._thread = threading.Thread(target=self._serve, name="tally-client", daemon=True)
        self._thread.start()

    def check_process(self) -> None:
        """Raise ClientUnusable in a fork."""
        if os.getpid() != self._process:
            raise ClientUnusable(
                f"the client was used in process {self._process}, and this is its fork {os.getpid()}. Close it before "
                "the fork and open one in each process, or use it only after (gunicorn: in the post_fork hook)",
                reason="CLIENT_FORKED",
            )

    def check_waiting(self) -> None:
        """Raise ClientUnusable where a wait could never end: after the loop has ended, or in its own thread."""
        self._check_open()
        if threading.current_thread() is self._thread:
            raise ClientUnusable("a blocking call would wait for its own thread", reason="CLIENT_ELSEWHERE")

    def _check_open(self) -> None:
        self._check_whole()
        if self._is_ended:
            raise ClientUnusable("the client is closed", reason="CLIENT_CLOSED")

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run it on the loop. Raises ClientUnusable in a fork, and after the end."""
        try:
            self.check_process()
            with self._submitting:
                self._check_open()
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            self._check_open()  # a signal may have closed it
            raise

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop, and wait."""
        try:
            self.check_waiting()
        except ClientUnusable:
            coroutine.close()
            raise
        future = self.start(coroutine)
        try:
            return future.result()
        except CancelledError:
            self._check_whole()
            raise ClientUnusable("the client was closed during the call", reason="CLIENT_CLOSED") from None
        except BaseException:
            future.cancel()
            raise

    def end(self, make_last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run one last coroutine, whose error is raised, and end the thread. In a fork, or a second time: nothing.

        Raises ClientUnusable if the thread has ended before, by a fault.
        """
        if os.getpid() != self._process:
            return
        with self._submitting:
            self._check_whole()
            if self._is_ended:
                return
            self._is_ended = True
            last = asyncio.run_coroutine_threadsafe(make_last(), self._loop)
        if threading.current_thread() is self._thread:  # the garbage collector may call from there
            last.add_done_callback(lambda _: self._loop.stop())
            return
        try:
            last.result()
        except CancelledError:
            self._check_whole()
            raise
        finally:
            with suppress(RuntimeError):  # it is closed, by a fault
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _check_whole(self) -> None:
        if self._fault is not None:
            raise ClientUnusable(
                f"the thread of the client has ended, by {self._fault!r}; open another client",
                reason="CLIENT_FAULT",
            ) from self._fault

    def _serve(self) -> None:
        """Run the loop until it is stopped, then end the remaining tasks, so that no caller waits without end."""
        try:
            self._loop.run_forever()
        except BaseException as fault:
            _LOGGER.exception("the loop of the client has ended")
            with self._submitting:
                self._fault = fault
        try:
            self._loop.run_until_complete(_wind_up(self._loop))
        finally:
            self._loop.close()


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
