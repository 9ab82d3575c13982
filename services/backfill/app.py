"""Wiring of the backfill. What its extra brings is imported when it opens."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

import structlog

from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.loop import Loop
from libs.runtime.service import Opened
from libs.stores.pool import open_pool
from libs.stores.postgres import AWAY, time_limits
from libs.stores.transactions import durable_settings
from services.backfill.settings import BackfillSettings
from services.backfill.uninstalled import INSTALL, UninstalledBackfill, UninstalledDelivery
from tally.backfill.v1.backfill_pb2_grpc import (
    BackfillServiceServicer,
    add_BackfillServiceServicer_to_server,
)
from tally.backfill.v1.delivery_pb2_grpc import (
    DeliveryServiceServicer,
    add_DeliveryServiceServicer_to_server,
)
from tally.contract.errors import NotReady, TallyError

NAME = "tally.backfill.v1.BackfillService"
_DELIVERY_NAME = "tally.backfill.v1.DeliveryService"
_LOGGER = structlog.get_logger(__name__)

EXTRA = ("aiohttp", "duckdb", "obstore")
_TURN_SECONDS = 120.0


@asynccontextmanager
async def open_backfill(context: Context, settings: BackfillSettings) -> AsyncIterator[Opened]:
    """Open the backfill. Without the libraries of its extra every call is answered with what to install.

    Raises NotReady when no scheduler or no partitioner is set.
    """
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        _LOGGER.info(INSTALL, missing=missing)
        yield _offer(UninstalledBackfill(), UninstalledDelivery())
        return
    for field in ("scheduler", "partitioner"):
        if not getattr(settings, field):
            raise NotReady(f"no {field} is set. Set TALLY_BACKFILL__{field.upper()}='[\"host:port\", …]'")
    async with AsyncExitStack() as stack:
        yield await _open(stack, context, settings)


async def _open(stack: AsyncExitStack, context: Context, settings: BackfillSettings) -> Opened:
    from libs.egress.session import open_session
    from libs.stores.objects import Objects
    from services.backfill.candidates import open_candidates
    from services.backfill.counting import Counting, Identity
    from services.backfill.delivery_servicer import DeliveryServicer
    from services.backfill.ledger import Ledger
    from services.backfill.resolver import Resolver
    from services.backfill.scheduling import Scheduling
    from services.backfill.servicer import BackfillServicer
    from services.backfill.shipping import Shipping

    objects = Objects(context.objects_url)
    pool = await stack.enter_async_context(
        open_pool(
            context.dsn,
            context.postgres,
            "tally backfill",
            server_settings={
                **await durable_settings(context.pool),
                **time_limits(context.postgres.statement_timeout_seconds),
            },
        )
    )
    session = await stack.enter_async_context(open_session(settings.egress))
    scheduling, shipping = Scheduling(pool, settings), Shipping(settings)
    stack.push_async_callback(scheduling.close)
    stack.push_async_callback(shipping.close)
    resolver = Resolver(pool, session, context.clock, settings)
    identity = Identity(context.cluster.cluster_id, context.cluster.partition_count)
    counting = Counting(
        lambda: open_candidates(pool, objects, context.data_dir / "backfill"),
        Ledger(pool),
        objects,
        shipping.ship,
        identity,
        settings.shipments_at_once,
    )
    for name, turn in (("resolver", resolver.turn), ("backfill runs", scheduling.turn)):
        loop = Loop(
            name,
            turn,
            interval_seconds=settings.poll_seconds,
            deadline_seconds=_TURN_SECONDS,
            transient=(*AWAY, TallyError),
            telemetry=context.telemetry,
        )
        stack.callback(context.background.start(name, loop.run()).cancel)
    return _offer(BackfillServicer(pool, counting), DeliveryServicer(pool, settings))


def _offer(jobs: BackfillServiceServicer, deliveries: DeliveryServiceServicer) -> Opened:
    return Opened(
        [
            Servable(NAME, lambda server: add_BackfillServiceServicer_to_server(jobs, server)),
            Servable(
                _DELIVERY_NAME, lambda server: add_DeliveryServiceServicer_to_server(deliveries, server)
            ),
        ],
        is_ready=lambda: True,
    )
