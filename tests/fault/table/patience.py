"""Calls that are made again until they succeed, whatever is broken meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tally.client import TallyError

T = TypeVar("T")
_PAUSE_SECONDS = 0.1


async def until_done(work: Callable[[], Awaitable[T]], within_seconds: float, failures: Counter[str]) -> T:
    """What `work` answers in the end; its errors are counted by their reasons. Raises TimeoutError."""
    async with asyncio.timeout(within_seconds):
        while True:
            try:
                return await work()
            except TallyError as error:
                failures[error.reason] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
