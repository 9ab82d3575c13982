"""Handlers block in threads; one that does not return in time is abandoned, and counted until it returns."""

import threading

import pytest

from services.worker.threads import Threads, TimeLimit
from tests.support.eventually import eventually


async def test_what_a_call_returns_or_raises_reaches_its_caller() -> None:
    threads = Threads()
    assert await threads.run(lambda: threading.current_thread().name, 5.0) == "handler"
    with pytest.raises(KeyError):
        await threads.run(lambda: dict[str, int]()["missing"], 5.0)
    with pytest.raises(TimeoutError, match="of its own"):
        await threads.run(_raise_timeout, 5.0)
    assert threads.abandoned_count == 0


def _raise_timeout() -> None:
    raise TimeoutError("of its own")


async def test_a_call_beyond_its_limit_is_abandoned_until_it_returns() -> None:
    threads, released = Threads(), threading.Event()
    with pytest.raises(TimeLimit, match=r"no end within 0\.05 s"):
        await threads.run(released.wait, 0.05)
    assert threads.abandoned_count == 1
    released.set()

    async def has_ended() -> bool:
        return threads.abandoned_count == 0

    await eventually(has_ended)
