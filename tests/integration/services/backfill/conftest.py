"""A pool on a database of the test's own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from libs.stores.pool import open_pool
from libs.stores.postgres import PostgresSettings


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[Any]:
    async with open_pool(dsn, PostgresSettings(), "test backfill") as opened:
        yield opened
