"""The same work several times at once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def run_side_by_side(work: Callable[[], Coroutine[Any, Any, None]], times: int) -> None:
    """Run `work` so many times at once, until all have returned. The first error ends them all, and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(times):
                tasks.create_task(work())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
