"""A loop in a thread, and what those who wait for it are told when it ends."""

import asyncio
import sys
import threading

import pytest

from tally.client import ClientUnusable
from tally.client._threads.loop_thread import LoopThread


async def die() -> None:
    sys.exit(1)


async def wait_for_ever(began: threading.Event) -> None:
    began.set()
    await asyncio.Event().wait()


async def do_nothing() -> None:
    pass


def test_a_thread_that_dies_is_noticed_by_all_who_wait_for_it_or_come_later() -> None:
    thread = LoopThread()
    began = threading.Event()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            thread.run(wait_for_ever(began))
        except ClientUnusable as error:
            errors.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert began.wait(5)
    with pytest.raises((SystemExit, ClientUnusable)):
        thread.run(die())
    waiting.join(5)
    assert not waiting.is_alive()
    assert len(errors) == 1
    with pytest.raises(ClientUnusable, match="has ended, by SystemExit"):
        thread.run(do_nothing())
    with pytest.raises(ClientUnusable, match="has ended, by SystemExit"):
        thread.end(do_nothing)


def test_the_last_coroutine_is_the_last_and_comes_once() -> None:
    thread = LoopThread()
    times: list[int] = []

    async def count() -> None:
        times.append(1)

    thread.run(count())
    thread.end(count)
    thread.end(count)
    assert len(times) == 2
    with pytest.raises(ClientUnusable, match="closed"):
        thread.run(count())
