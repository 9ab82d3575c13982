"""Fixtures: one Postgres and one Valkey for the run, a database for each test, and Tally on top of them."""

import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio
import redis
from pydantic import BaseModel

from tests.support.servers import Servers, fresh_database, name_of, open_servers
from tests.support.stack import OpenService, Stack, open_stack


def pytest_configure() -> None:
    # An example may take long because the machine is busy; a test that hangs has pytest-timeout.
    hypothesis.settings.register_profile("tally", deadline=None)
    hypothesis.settings.load_profile("tally")
    # A shell that starts a job in the background lets it ignore Ctrl-C, and so do all that it starts; the tests
    # send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers() -> AsyncIterator[Servers]:
    """Real servers, with fsync; they end with the run."""
    async with open_servers() as opened:
        yield opened


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a migrated database that the others are copies of."""
    return name_of(servers.postgres_dsn)


@pytest_asyncio.fixture
async def dsn(servers: Servers, template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    async with fresh_database(servers.postgres_dsn, template) as made:
        yield made


@pytest.fixture
def valkey_url(servers: Servers) -> str:
    """An empty Valkey."""
    with redis.Redis.from_url(servers.valkey_url) as client:
        client.flushall()
    return servers.valkey_url


@pytest.fixture
def open_service(dsn: str, valkey_url: str, tmp_path: Path) -> OpenService:
    """Opens a service with settings of its model, or with the defaults, on a database of the test's own."""

    def open_it(name: str, settings: BaseModel | None = None) -> AbstractAsyncContextManager[Stack]:
        return open_stack(dsn, valkey_url, tmp_path, [name], {} if settings is None else {name: settings})

    return open_it


@pytest_asyncio.fixture
async def stack(dsn: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """Every service in this process, on a database of its own."""
    async with open_stack(dsn, valkey_url, tmp_path) as opened:
        yield opened
