"""The life of one process: stores, services, server; and back in the reverse order."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog
from pydantic import BaseModel

from libs.embedded.folder import check_owner, list_data
from libs.embedded.postgres import open_postgres
from libs.embedded.process import OnDeath
from libs.embedded.sockets import SocketFolder, open_socket_folder
from libs.embedded.valkey import open_valkey
from libs.rpc import ports
from libs.rpc.server import OpenServer, ServerSettings, open_server
from libs.runtime.background import Background, open_background
from libs.runtime.context import Context
from libs.runtime.presence import Presence
from libs.runtime.service import Opened
from libs.stores.postgres import AWAY, open_pool
from libs.stores.schema import migrate
from libs.stores.server_clock import ServerClock
from libs.telemetry import catalogue
from libs.telemetry.setup import open_telemetry
from services.joining import Joining
from services.migrations import list_migrations
from services.registry import ALL, SERVICES, Service
from services.settings import Settings
from tally.contract.errors import NotReady

_LOGGER = structlog.get_logger(__name__)

_READINESS_SECONDS = 0.2
_STARTING_SECONDS = 0.02
_CLOCK_SECONDS = 5.0
_SWITCH_SECONDS = 0.0005

Report = Callable[[str], None]
"""is told what takes time"""


@asynccontextmanager
async def open_process(
    settings: Settings, names: Sequence[str], report: Report = lambda _: None
) -> AsyncIterator[tuple[OpenServer, Background]]:
    """Open these services; yields once all of them are serving.

    Raises NotReady, or another TallyError, when something that they need is missing.
    """
    is_all = ALL in names
    chosen = [service for service in SERVICES if is_all or service.name in names]
    ports.check_free(settings.server.address)
    check_owner(settings.data_dir)
    async with AsyncExitStack() as stack:
        deaths: asyncio.Queue[str] = asyncio.Queue()
        dsn, valkey_url = await _open_stores(stack, settings, report, deaths.put_nowait, may_embed=is_all)
        telemetry = stack.enter_context(open_telemetry(f"tally-{'-'.join(names)}"))
        waits_for_postgres = any(service.waits_for_postgres for service in chosen)
        pool = await stack.enter_async_context(
            open_pool(
                dsn, settings.postgres, f"tally {' '.join(names)}", is_needed_at_start=waits_for_postgres
            )
        )
        if is_all:
            async with pool.acquire() as connection:
                await migrate(connection, settings.partition_count, list_migrations())
        clock = ServerClock()
        folder = None if waits_for_postgres else settings.data_dir
        joining = Joining(pool, settings.partition_count, clock, folder)
        cluster = await joining.join()
        background = await stack.enter_async_context(open_background())
        if not joining.is_confirmed:
            background.start("cluster", joining.confirm(cluster))
        background.start("clock", _keep_clock(clock, pool))
        background.start("embedded servers", _end_with(deaths))
        catalogue.observe(telemetry.meter, catalogue.CLOCK_OFFSET, lambda: clock.offset_seconds)
        context = Context(
            dsn,
            valkey_url,
            pool,
            cluster,
            clock,
            background,
            telemetry,
            settings.postgres,
            settings.objects_url or (settings.data_dir.resolve() / "objects").as_uri(),
            settings.data_dir,
        )
        sockets = _open_private_sockets(stack, settings.data_dir) if is_all else None
        opened: list[Opened] = []
        served: list[tuple[OpenServer, Sequence[Opened]]] = []

        async def serve(server_settings: ServerSettings, some: Sequence[Opened]) -> OpenServer:
            servables = [servable for each in some for servable in each.servables]
            server = await stack.enter_async_context(
                open_server(server_settings, servables, telemetry=telemetry)
            )
            served.append((server, some))
            return server

        report("Starting the services")
        for service in chosen:
            own = _settings_of(service, settings, sockets)
            each = await stack.enter_async_context(service.open(context, own))
            stack.push_async_callback(each.drain)
            opened.append(each)
            context.handles.offer(each.handles)
            if sockets is not None and service.name in sockets.names:
                private = {"address": sockets.address_of(service.name), "drain_delay_seconds": 0.0}
                await serve(settings.server.model_copy(update=private), [each])
                background.start(f"the socket of {service.name}", sockets.watch(service.name))
        server = await serve(settings.server, opened)
        readiness = background.start("readiness", _tell_readiness(served, background, clock))
        stack.callback(readiness.cancel)
        await _until_ready(opened, background, clock)
        yield server, background


async def run_process(
    settings: Settings,
    names: Sequence[str],
    report: Report,
    announce: Callable[[OpenServer], None],
    give_up: Callable[[str], NoReturn],
) -> None:
    """Run these services until SIGINT or SIGTERM, however far they have come by then.

    Raises LoopDied when one of them cannot go on. `give_up` ends the process at once, when its data folder is removed:
    an orderly end could not keep anything any more.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    looking = asyncio.create_task(watch_data(settings.data_dir, give_up))
    async with AsyncExitStack() as stack:
        opening = asyncio.create_task(stack.enter_async_context(open_process(settings, names, report)))
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening
            return
        server, background = await opening
        _tune_interpreter()
        announce(server)
        watching = asyncio.create_task(background.watch())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await watching
        watching.cancel()
        report("Stopping")
    looking.cancel()


async def watch_data(data_dir: Path, give_up: Callable[[str], NoReturn]) -> None:
    """Call `give_up` with a sentence when the data are removed."""
    try:
        await Presence(list_data(data_dir)).watch()
    except NotReady as error:
        give_up(error.message)


def _tune_interpreter() -> None:
    # What has been imported and opened stays: the collector need not look at it again, nor come so often. A request
    # makes hundreds of objects, and no cycles of them, even when it is refused (libs/rpc/tracebacks.py); looking for
    # cycles took a sixth of reading entries. They are looked for at last after two million objects that stay, because
    # one that was overlooked may hold a request of megabytes.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    # While a flush is prepared in a thread, the loop waits so long for the interpreter after each of its system calls.
    sys.setswitchinterval(_SWITCH_SECONDS)


async def _open_stores(
    stack: AsyncExitStack, settings: Settings, report: Report, on_death: OnDeath, *, may_embed: bool
) -> tuple[str, str]:
    """The DSN and the URL of the stores, of our own where none are set."""
    dsn, url = settings.postgres.dsn, settings.valkey.url
    if not may_embed and (dsn is None or url is None):
        missing = [
            name
            for name, value in (("TALLY_POSTGRES__DSN", dsn), ("TALLY_VALKEY__URL", url))
            if value is None
        ]
        raise NotReady(
            f"{' and '.join(missing)} must be set: only `{ALL}` brings servers of its own, because services "
            "in several processes must share theirs"
        )
    if dsn is None:
        report(f"Starting Postgres in {settings.data_dir / 'postgres'}")
        dsn = await stack.enter_async_context(
            open_postgres(
                settings.data_dir / "postgres", settings=settings.embedded.postgres, on_death=on_death
            )
        )
    if url is None:
        report(f"Starting Valkey in {settings.data_dir / 'valkey'}")
        url = await stack.enter_async_context(
            open_valkey(settings.data_dir / "valkey", settings=settings.embedded.valkey, on_death=on_death)
        )
    return dsn, url


@dataclass(frozen=True, slots=True)
class _PrivateSockets:
    """Sockets behind which the services of this process reach each other, and nobody else does."""

    folder: SocketFolder
    names: frozenset[str]
    """of the services that others call"""

    def address_of(self, name: str) -> str:
        return f"unix:{self.folder.reach / f'{name}.sock'}"

    async def watch(self, name: str) -> None:
        """Raises NotReady when the socket is removed."""
        await self.folder.watch([f"{name}.sock"])


def _open_private_sockets(stack: AsyncExitStack, data_dir: Path) -> _PrivateSockets:
    folder = stack.enter_context(open_socket_folder(data_dir))
    names = frozenset(name for service in SERVICES for name in service.calls)
    folder.prepare([f"{name}.sock" for name in names])
    return _PrivateSockets(folder, names)


def _settings_of(service: Service, settings: Settings, sockets: _PrivateSockets | None) -> BaseModel:
    """The settings of a service; with `sockets` it calls the services of this process.

    Raises NotReady when it is set to call others than those.
    """
    own = settings.of(service.settings)
    if sockets is None:
        return own
    for called, field in service.calls.items():
        if getattr(own, field):
            raise NotReady(
                f"`{ALL}` runs a {called} service of its own: unset "
                f"{service.variable_of(field)}, or name the services one by one"
            )
    return own.model_copy(
        update={field: (sockets.address_of(called),) for called, field in service.calls.items()}
    )


async def _end_with(deaths: "asyncio.Queue[str]") -> None:
    """End the process with the first server that does: whoever starts it again starts that too."""
    raise NotReady(await deaths.get())


async def _keep_clock(clock: ServerClock, pool: Any) -> None:
    """Read Postgres's clock now and then, and say when the machine's own begins to differ from it, or ends to."""
    agreed = True
    while True:
        if clock.agrees is not agreed:
            agreed = clock.agrees
            log = _LOGGER.info if agreed else _LOGGER.error
            log(
                "this machine's clock agrees with Postgres's again"
                if agreed
                else "this machine's clock is too far from Postgres's: nothing is ready until it is set right",
                offset_seconds=round(clock.offset_seconds, 3),
            )
        await asyncio.sleep(_CLOCK_SECONDS)
        try:
            await clock.read(pool)
        except (*AWAY, NotReady) as error:
            _LOGGER.warning("Postgres's clock was not read", error=str(error))


async def _tell_readiness(
    served: Sequence[tuple[OpenServer, Sequence[Opened]]], background: Background, clock: ServerClock
) -> None:
    """Say SERVING for what is ready, and only for that, for as long as the process lives."""
    while True:
        is_sound, all_ready = background.is_alive and clock.agrees, True
        for server, opened in served:
            for each in opened:
                is_ready = is_sound and each.is_ready()
                all_ready &= is_ready
                for servable in each.servables:
                    await server.health.set_serving(servable.name, is_ready)
            if not any(each.servables for each in opened):
                await server.health.set_serving("", is_sound and all(each.is_ready() for each in opened))
        await asyncio.sleep(_READINESS_SECONDS if all_ready else _STARTING_SECONDS)


async def _until_ready(opened: Sequence[Opened], background: Background, clock: ServerClock) -> None:
    while not (clock.agrees and all(each.is_ready() for each in opened)):
        if not background.is_alive:
            await background.watch()
        await asyncio.sleep(0.01)
