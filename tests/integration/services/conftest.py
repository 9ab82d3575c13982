"""A stack that the tests of one module share: each uses videos of its own."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
import redis

from tests.integration.services.api import Api, open_api
from tests.support.servers import Servers, fresh_database
from tests.support.stack import Stack, open_stack


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, Any]:
    """Settings of the shared stack; a module that needs others has a fixture of this name."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    servers: Servers,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    overrides: Mapping[str, Any],
) -> AsyncIterator[Stack]:
    """Every service in this process, for all tests of a module; they run in the loop of their module."""
    with redis.Redis.from_url(servers.valkey_url) as client:
        client.flushall()
    folder = tmp_path_factory.mktemp("tally")
    async with (
        fresh_database(servers.postgres_dsn, template) as dsn,
        open_stack(dsn, servers.valkey_url, folder, overrides=overrides) as opened,
    ):
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(shared: Stack) -> AsyncIterator[Api]:
    """The shared stack's services as generated stubs call them, and a look into its database."""
    async with open_api(shared) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def dsn_of_test(servers: Servers, template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own, in the loop of its module."""
    async with fresh_database(servers.postgres_dsn, template) as made:
        yield made
