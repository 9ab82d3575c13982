"""Two regions that know each other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.regions import Pair, open_pair
from tests.support.servers import Servers


@pytest_asyncio.fixture
async def pair(servers: Servers, template: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """An owner and a receiver, each with the real service on a database of its own."""
    async with open_pair(servers.postgres_dsn, template, valkey_url, tmp_path) as opened:
        yield opened
