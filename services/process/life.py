"""The life of one process: opens stores, services and servers, and closes them in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from libs.embedded.folder import check_owner
from libs.rpc import ports
from libs.rpc.security.access import RolesSettings
from libs.rpc.server import OpenServer, ServerSettings, check_reach, open_server
from libs.runtime.background import Background, open_background
from libs.runtime.context import Context
from libs.runtime.service import Opened
from libs.stores.pool import open_pool
from libs.stores.schema import migrate
from libs.stores.server_clock import ServerClock
from libs.telemetry import catalogue
from libs.telemetry.setup import open_telemetry
from libs.telemetry.targets import Target, keep_targets
from services.migrations import list_migrations
from services.process.clock import keep_clock
from services.process.joining import Joining
from services.process.readiness import tell_readiness, until_ready
from services.process.sockets import open_private_sockets, settings_of
from services.process.stores import Report, open_stores
from services.process.vitals import measure_loop, observe_process, observe_servers
from services.registry import ALL, SERVICES
from services.settings import Settings
from tally.contract.errors import NotReady


@asynccontextmanager
async def open_process(
    settings: Settings, names: Sequence[str], report: Report = lambda _: None
) -> AsyncIterator[tuple[OpenServer, Background]]:
    """Open these services; yields once all of them are serving.

    Raises NotReady, or another TallyError, when something that they need is missing.
    """
    is_all = ALL in names
    chosen = [service for service in SERVICES if is_all or service.name in names]
    check_reach(settings.server)
    ports.check_free(settings.server.address)
    check_owner(settings.data_dir)
    async with AsyncExitStack() as stack:
        clock = ServerClock()
        context = await _open_context(stack, settings, names, clock, report)
        background, telemetry = context.background, context.telemetry
        sockets = open_private_sockets(stack, settings.data_dir) if is_all else None
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
            own = settings_of(service, settings, sockets)
            each = await stack.enter_async_context(service.open(context, own))
            stack.push_async_callback(each.drain)
            opened.append(each)
            context.handles.offer(each.handles)
            if sockets is not None and service.name in sockets.names:
                private = {
                    "address": sockets.address_of(service.name),
                    "drain_delay_seconds": 0.0,
                    "roles": RolesSettings(),  # nobody else reaches it
                    "health_address": None,
                }
                await serve(settings.server.model_copy(update=private), [each])
                background.start(f"the socket of {service.name}", sockets.watch(service.name))
        server = await serve(settings.server, opened)
        observe_servers(telemetry.meter, [each for each, _ in served])
        readiness = background.start("readiness", tell_readiness(served, background, clock))
        stack.callback(readiness.cancel)
        await until_ready(opened, background, clock)
        if is_all and telemetry.address is not None:
            stack.enter_context(keep_targets(settings.data_dir, [Target(telemetry.address, ALL, ALL)]))
        yield server, background


async def _open_context(
    stack: AsyncExitStack, settings: Settings, names: Sequence[str], clock: ServerClock, report: Report
) -> Context:
    """The stores, the part in the cluster, and what runs beside every service."""
    is_all = ALL in names
    waits_for_postgres = any(each.waits_for_postgres for each in SERVICES if is_all or each.name in names)
    deaths: asyncio.Queue[str] = asyncio.Queue()
    dsn, valkey_url = await open_stores(stack, settings, report, deaths.put_nowait, may_embed=is_all)
    telemetry = stack.enter_context(open_telemetry(f"tally-{'-'.join(names)}", settings.telemetry))
    pool = await stack.enter_async_context(
        open_pool(dsn, settings.postgres, f"tally {' '.join(names)}", is_needed_at_start=waits_for_postgres)
    )
    if is_all:
        async with pool.acquire() as connection:
            await migrate(connection, settings.partition_count, list_migrations())
    folder = None if waits_for_postgres else settings.data_dir
    joining = Joining(pool, settings.partition_count, clock, folder)
    cluster = await joining.join()
    background = await stack.enter_async_context(open_background())
    if not joining.is_confirmed:
        background.start("cluster", joining.confirm(cluster))
    background.start("clock", keep_clock(clock, pool))
    background.start("embedded servers", _end_with(deaths))
    catalogue.observe(telemetry.meter, catalogue.CLOCK_OFFSET, lambda: clock.offset_seconds)
    observe_process(telemetry.meter, pool)
    if telemetry.enabled:
        background.start("event loop delay", measure_loop(telemetry.meter))
    return Context(
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


async def _end_with(deaths: "asyncio.Queue[str]") -> None:
    """End the process when the first server ends: a restart of the process restarts the server too."""
    raise NotReady(await deaths.get())
