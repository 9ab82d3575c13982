"""Schedulers on a database of the test's own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.services.scheduler.scheduling import Scene, open_scene


@pytest_asyncio.fixture
async def scene(dsn: str) -> AsyncIterator[Scene]:
    """One scheduler."""
    async with open_scene(dsn) as opened:
        yield opened


@pytest_asyncio.fixture
async def pair(dsn: str) -> AsyncIterator[Scene]:
    """Two schedulers on the same database, with the same clock."""
    async with open_scene(dsn, schedulers=2) as opened:
        yield opened
