"""Wiring of the catalog."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import redis.asyncio as valkey
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from libs.rpc.breaker import reporter
from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.loop import Loop
from libs.runtime.service import Opened
from libs.stores.pool import open_pool
from libs.stores.postgres import AWAY, time_limits
from libs.telemetry import catalogue
from services.catalog.contents import VALKEY_AWAY, Contents
from services.catalog.feed import remove_changes
from services.catalog.find_servicer import FindServicer
from services.catalog.finder import Finder
from services.catalog.follower import Follower
from services.catalog.freshness import Freshness
from services.catalog.list_reading import ListReader
from services.catalog.listener import Listener
from services.catalog.projection import Projection
from services.catalog.reindexing import reindex_piece
from services.catalog.replicas import sweep
from services.catalog.resource_servicer import ResourceServicer
from services.catalog.rights_servicer import RightsServicer
from services.catalog.settings import CatalogSettings
from services.catalog.verification import Verification
from services.catalog.watching import Watching
from services.catalog.writing import WRITE_SECONDS, Writing
from tally.catalog.v1.find_pb2_grpc import add_FindServiceServicer_to_server
from tally.catalog.v1.resource_pb2_grpc import add_ResourceServiceServicer_to_server
from tally.catalog.v1.rights_pb2_grpc import add_RightsServiceServicer_to_server
from tally.contract.breaker import Breaker
from tally.contract.errors import NotReady, Unavailable

NAME = "tally.catalog.v1.FindService"
_RESOURCES = "tally.catalog.v1.ResourceService"
_RIGHTS = "tally.catalog.v1.RightsService"

_FEED_CONNECTIONS = 4
"""One for the freshness query, one to read changes, one for the projection, one for callers who wait for a change."""
_READ_SECONDS = 3_600.0
"""Time limit of a turn that reads all of the catalog; each statement in it has its own limit."""
_LISTEN_SECONDS = 1.0
_REINDEX_SECONDS = 5.0
"""Only in case that a notification is lost."""
_UPKEEP_SECONDS = 60.0


@asynccontextmanager
async def open_catalog(context: Context, settings: CatalogSettings) -> AsyncIterator[Opened]:
    """Open a replica of the catalog. It is ready once it has read the record and is fresh."""
    async with AsyncExitStack() as stack:
        feed_pool = await stack.enter_async_context(
            open_pool(
                context.dsn,
                context.postgres.model_copy(update={"pool_size": _FEED_CONNECTIONS}),
                "tally catalog feed",
                statement_seconds=settings.feed.timeout_seconds,
            )
        )
        pool = await stack.enter_async_context(
            open_pool(
                context.dsn,
                context.postgres,
                "tally catalog",
                server_settings=time_limits(WRITE_SECONDS),  # a frozen writer must not hold the feed
            )
        )
        contents_client = _open_client(context.valkey_url, settings.contents.timeout_seconds)
        stack.push_async_callback(contents_client.aclose)
        projection_client = _open_client(context.valkey_url, settings.projection.timeout_seconds)
        stack.push_async_callback(projection_client.aclose)
        rights = settings.rights
        freshness = Freshness(rights.max_staleness_seconds, rights.clock_drift_ppm)
        follower = Follower(feed_pool, settings, freshness)
        breaker = Breaker(
            "Valkey of the catalog",
            failures=settings.contents.breaker_failures,
            reset_after_s=settings.contents.breaker_reset_seconds,
            is_failure=lambda error: isinstance(error, VALKEY_AWAY),
            now=context.clock.monotonic,
            on_change=reporter(context.telemetry),
        )
        cache_bytes = settings.contents.cache_mb * 1024 * 1024
        parts = settings.projection.parts if settings.projection.enabled else ()
        contents = Contents(pool, contents_client, breaker, context.cluster, parts, cache_bytes)
        lists = ListReader(
            pool,
            contents_client,
            breaker,
            context.cluster,
            parts,
            follower.change_before,
            settings.lists.max_read_entries,
        )
        finder = Finder(follower, contents, lists, settings.find.max_steps)
        writing = Writing(pool, settings.feed.notify_seconds)
        stack.push_async_callback(writing.close)
        projection = Projection(projection_client, feed_pool, context.cluster, settings.projection)
        _observe(context, follower, projection)

        loop = partial(Loop, telemetry=context.telemetry)
        following = loop(
            "catalog feed",
            follower.turn,
            interval_seconds=settings.feed.interval_seconds,
            deadline_seconds=_READ_SECONDS,
        )

        async def keep_up() -> None:
            await sweep(pool)
            await remove_changes(pool, settings.feed.kept_seconds)

        async def reindex() -> float | None:
            # Asked of the record: a re-indexing where only the order of sorts changed leaves every view complete.
            return 0.0 if await reindex_piece(writing, pool) else None

        reindexing = loop(
            "catalog re-indexing",
            reindex,
            interval_seconds=_REINDEX_SECONDS,
            deadline_seconds=_READ_SECONDS,
            retry_seconds=1.0,
            transient=(*AWAY, Unavailable),
        )
        projecting = loop(
            "catalog projection",
            projection.turn,
            interval_seconds=settings.feed.interval_seconds,
            deadline_seconds=_READ_SECONDS,
            retry_seconds=1.0,
            transient=(*AWAY, RedisError),
        )

        def wake() -> None:
            for each in (following, reindexing, projecting):
                each.wake()

        listener = Listener(context.dsn, context.postgres, wake)
        stack.callback(listener.close)
        loops = [
            following,
            reindexing,
            loop(
                "catalog listener",
                listener.turn,
                interval_seconds=_LISTEN_SECONDS,
                deadline_seconds=10 * _LISTEN_SECONDS,
            ),
            loop(
                "catalog upkeep", keep_up, interval_seconds=_UPKEEP_SECONDS, deadline_seconds=_UPKEEP_SECONDS
            ),
        ]
        if settings.projection.enabled:
            loops.append(projecting)
        tasks = [context.background.start(each.name, each.run()) for each in loops]
        stack.push_async_callback(follower.leave)
        stack.push_async_callback(_end, tasks)  # before what they use is closed
        find = FindServicer(finder, may_look_past=rights.may_look_past)
        resource = ResourceServicer(
            pool,
            writing,
            finder,
            Watching(pool, settings.feed.interval_seconds),
            follower,
            projection,
            Verification(projection_client, pool, context.cluster, settings.projection),
            projecting.wake,
            settings.lists.max_entries,
        )
        rules = RightsServicer(
            pool,
            writing,
            follower,
            lists,
            default_allow=rights.default_allow,
            may_look_past=rights.may_look_past,
        )
        yield Opened(
            [
                Servable(NAME, lambda server: add_FindServiceServicer_to_server(find, server)),
                Servable(_RESOURCES, lambda server: add_ResourceServiceServicer_to_server(resource, server)),
                Servable(_RIGHTS, lambda server: add_RightsServiceServicer_to_server(rules, server)),
            ],
            is_ready=lambda: follower.is_ready,
        )


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel loops, and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _observe(context: Context, follower: Follower, projection: Projection) -> None:
    meter = context.telemetry.meter
    catalogue.observe(meter, catalogue.CATALOG_STALENESS, lambda: follower.freshness.stale_seconds)
    catalogue.observe(meter, catalogue.CATALOG_RESOURCES, lambda: follower.resource_count)
    catalogue.observe(meter, catalogue.CATALOG_PROJECTED, lambda: projection.position)


def _open_client(url: str, timeout_seconds: float) -> "valkey.Redis":
    """A client that connects when it is first used. Raises NotReady when `url` is none that a client can use."""
    try:
        return valkey.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise NotReady(f"TALLY_VALKEY__URL cannot be used: {error}") from error
