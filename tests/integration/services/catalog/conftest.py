"""The catalog alone in the test's own process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.stack import Stack, open_stack


@pytest_asyncio.fixture
async def alone(dsn: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """A replica of the catalog, on a database of its own."""
    async with open_stack(dsn, valkey_url, tmp_path, ["catalog"]) as opened:
        yield opened
