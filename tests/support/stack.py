"""Every service in the test's own process, or a part of them, on given servers."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from libs.rpc.server import ServerSettings
from libs.stores.postgres import PostgresSettings
from services.process.life import open_process
from services.settings import CallsSettings, ValkeySettings, read_settings
from tally.client import Client
from tests.support import reach
from tests.support.database import PARTITION_COUNT


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the services are reached, and with which database."""

    address: str
    client: Client
    dsn: str


@asynccontextmanager
async def open_stack(
    dsn: str,
    valkey_url: str,
    folder: Path,
    names: Sequence[str] = ("all",),
    overrides: Mapping[str, Any] | None = None,
) -> AsyncIterator[Stack]:
    """Open services on a free port; `overrides` are settings by the name of their component."""
    settings = read_settings(
        data_dir=folder,
        partition_count=PARTITION_COUNT,
        server=ServerSettings(address="127.0.0.1:0", grace_seconds=1.0, **reach.server_settings()),
        calls=CallsSettings(tls=reach.channel_tls()),
        postgres=PostgresSettings(dsn=dsn),
        valkey=ValkeySettings(url=valkey_url),
        **(overrides or {}),
    )
    async with (
        open_process(settings, names) as (server, _),
        reach.open_client(server.address, timeout=20.0) as client,
    ):
        yield Stack(server.address, client, dsn)


class OpenService(Protocol):
    """Opens a service, or `all`, on the stores of a test; the fixture `open_service` is one."""

    def __call__(
        self, name: str, settings: BaseModel | None = None
    ) -> AbstractAsyncContextManager[Stack]: ...
