"""Two regions that know each other."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.regions import Pair, open_pair
from tests.support.servers import Servers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """An owner and a receiver, each with the real service on a database of its own, for all tests of a module."""
    folder = tmp_path_factory.mktemp("pair")
    async with open_pair(servers.postgres_dsn, template, servers.valkey_url, folder) as opened:
        yield opened
