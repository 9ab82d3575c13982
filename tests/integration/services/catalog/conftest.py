"""The catalog alone in the test's own process."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.stack import OpenService, Stack


@pytest_asyncio.fixture
async def alone(open_service: OpenService) -> AsyncIterator[Stack]:
    """A replica of the catalog, on a database of its own."""
    async with open_service("catalog") as opened:
        yield opened
