"""A worker asks for work only if it has a handler."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from libs.runtime.background import open_background
from libs.runtime.context import Context
from libs.stores.postgres import PostgresSettings
from libs.telemetry.setup import OFF
from services.worker.app import make_handlers, open_worker
from services.worker.handlers.handler import Handler, Item, Result
from services.worker.settings import WorkerSettings
from tests.support.clock import Clock
from tests.support.eventually import eventually


class Echo:
    """A handler that is never called here."""

    name = "echo"
    columns: Sequence[str] = ()

    def handle(self, items: Sequence[Item]) -> Sequence[Result]:
        raise AssertionError(items)

    def close(self) -> None:
        """It holds nothing."""


class Scheduler:
    """Counts the connections that are made to it, and answers nothing."""

    connections = 0

    def accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@asynccontextmanager
async def working(handlers: Mapping[str, Handler]) -> AsyncIterator[tuple[Scheduler, str]]:
    """A worker with these handlers, and its scheduler."""
    scheduler = Scheduler()
    server = await asyncio.start_server(scheduler.accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, open_background() as background:
        clock, nothing = Clock(), cast("Any", None)
        context = Context(
            "", "", nothing, nothing, clock, background, OFF, PostgresSettings(), "", Path("nowhere")
        )
        settings = WorkerSettings(scheduler=(f"{host}:{port}",))
        async with open_worker(context, settings, handlers):
            yield scheduler, port


async def test_a_worker_without_an_api_key_has_no_handler_and_calls_nobody() -> None:
    handlers = make_handlers(WorkerSettings())
    assert handlers == {}
    async with working(handlers) as (scheduler, port):
        for _ in range(3):  # whatever the worker had begun before would be accepted before these
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.read()
            writer.close()
        assert scheduler.connections == 3


async def test_a_worker_with_a_handler_asks_at_once() -> None:
    async with working({"echo": Echo()}) as (scheduler, _):

        async def is_asked() -> bool:
            return scheduler.connections > 0

        await eventually(is_asked)
