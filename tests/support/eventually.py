"""Waiting for what comes by itself, with a deadline instead of a guess."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(is_so: Callable[[], Awaitable[bool]], within_seconds: float = 20.0) -> None:
    """Ask until the answer is yes. Fails when it is not within the time."""
    deadline = time.monotonic() + within_seconds
    while not await is_so():
        assert time.monotonic() < deadline, f"not so within {within_seconds} s"
        await asyncio.sleep(0.02)
