"""Wiring of the worker."""

import asyncio
import itertools
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

import structlog

from libs.runtime.context import Context
from libs.runtime.service import Opened
from libs.telemetry import catalogue
from libs.telemetry.setup import OFF, Telemetry
from services.worker.handlers.handler import Handler
from services.worker.handlers.metadata import open_metadata
from services.worker.lane import Lane
from services.worker.measuring import Measuring
from services.worker.scheduler import Scheduler
from services.worker.settings import WorkerSettings
from services.worker.threads import Threads
from tally.contract.errors import NotReady

_LOGGER = structlog.get_logger(__name__)

FETCH_REPO_NEEDS = ("aiohttp", "duckdb", "obstore")
_LOOK_SECONDS = 1.0
_DRAIN_SECONDS = 25.0
"""A batch may take 20 s; one that does not end in time is done again by another worker."""


def make_handlers(settings: WorkerSettings, telemetry: Telemetry = OFF) -> dict[str, Handler]:
    """The handlers that this worker can offer, by their names. Raises NotReady when a library is missing."""
    handlers: list[Handler] = []
    if settings.youtube.api_key is not None:
        handlers.append(open_metadata(settings.youtube, telemetry))
    return {handler.name: handler for handler in handlers}


async def open_handlers(
    stack: AsyncExitStack, context: Context, settings: WorkerSettings
) -> dict[str, Handler]:
    """The handlers that this worker can offer; those that need the event loop are closed with `stack`."""
    handlers = make_handlers(settings, context.telemetry)
    if not settings.backfill:
        return handlers
    if missing := [name for name in FETCH_REPO_NEEDS if find_spec(name) is None]:
        _LOGGER.info(
            "the handler `fetch_repo` needs more libraries. Install them: pip install 'tally-services[backfill]'",
            missing=missing,
        )
        return handlers
    from services.worker.handlers.fetch_repo.handler import open_fetch_repo

    handler = await stack.enter_async_context(open_fetch_repo(context, settings))
    return {**handlers, handler.name: handler}


@asynccontextmanager
async def open_worker(
    context: Context, settings: WorkerSettings, handlers: Mapping[str, Handler] | None = None
) -> AsyncIterator[Opened]:
    """Open a worker with the handlers of its settings, or with others. Raises NotReady when no scheduler is set.

    Without any handler it waits, and asks for nothing.
    """
    if not settings.scheduler:
        raise NotReady("no scheduler is set. Set TALLY_WORKER__SCHEDULER='[\"host:port\", …]'")
    async with AsyncExitStack() as stack:
        offered = await open_handlers(stack, context, settings) if handlers is None else handlers
        async with _open(context, settings, offered) as opened:
            yield opened


@asynccontextmanager
async def _open(
    context: Context, settings: WorkerSettings, handlers: Mapping[str, Handler]
) -> AsyncIterator[Opened]:
    worker = f"{settings.name or socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    scheduler = Scheduler(settings, context.telemetry)
    threads, numbers = Threads(), itertools.count(1)
    measuring = Measuring(context.telemetry, settings.slots_at_once)
    lanes = [
        Lane(
            worker,
            scheduler,
            handlers,
            threads,
            context.clock,
            settings.wait_seconds,
            numbers.__next__,
            measuring,
        )
        for _ in range(settings.slots_at_once if handlers else 0)
    ]
    catalogue.observe(
        context.telemetry.meter, catalogue.WORKER_THREADS_ABANDONED, lambda: threads.abandoned_count
    )
    running = [
        context.background.start(f"lane {number}", lane.run()) for number, lane in enumerate(lanes, start=1)
    ]
    watching = context.background.start("threads", _watch(threads, settings.slots_at_once))
    if not handlers:
        _LOGGER.info("this worker has no handler; set TALLY_WORKER__YOUTUBE__API_KEY for `metadata`")

    async def drain() -> None:
        for lane in lanes:
            lane.stop()
        if running:
            await asyncio.wait(running, timeout=_DRAIN_SECONDS)

    try:
        yield Opened([], is_ready=lambda: True, drain=drain)
    finally:
        for task in (*running, watching):
            task.cancel()
        await asyncio.wait({*running, watching})
        await scheduler.close()
        for handler in handlers.values():
            handler.close()


async def _watch(threads: Threads, slots_at_once: int) -> None:
    """Raises NotReady, which ends the process, when more than half of the threads were abandoned."""
    while True:
        if 2 * threads.abandoned_count > slots_at_once:
            raise NotReady(
                f"{threads.abandoned_count} handlers did not return within their time limit and still run; "
                "the worker ends, because threads cannot be stopped"
            )
        await asyncio.sleep(_LOOK_SECONDS)
