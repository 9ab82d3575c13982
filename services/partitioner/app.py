"""Wiring of the partitioner."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from libs.domain.errors import DeadlineExpired, NotReady, Unavailable
from libs.domain.partition import Partitions
from libs.rpc.breaker import Breaker, reporter
from libs.rpc.calls import UnaryCall
from libs.rpc.channel import open_channel
from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.service import Opened
from services.partitioner.door import Door
from services.partitioner.ingest import Ingest
from services.partitioner.router import Router
from services.partitioner.sender import Append, Sender
from services.partitioner.servicer import IngestServicer
from services.partitioner.settings import PartitionerSettings
from tally.counting.v1.counting_pb2 import AppendRequest, AppendResponse
from tally.counting.v1.counting_pb2_grpc import CountingServiceStub
from tally.ingest.v1.ingest_pb2_grpc import add_IngestServiceServicer_to_server

NAME = "tally.ingest.v1.IngestService"
_APPEND = "/tally.counting.v1.CountingService/Append"


@asynccontextmanager
async def open_partitioner(context: Context, settings: PartitionerSettings) -> AsyncIterator[Opened]:
    """Open a partitioner that sends to the shards of its settings. Raises NotReady without any."""
    if not settings.shards:
        raise NotReady("no counting shards are known. Set TALLY_PARTITIONER__SHARDS='[\"host:port\", …]'")
    async with AsyncExitStack() as stack:
        senders = {}
        for address in settings.shards:
            channel = await stack.enter_async_context(open_channel(address, settings.channel))
            breaker = Breaker(
                f"counting shard {address}",
                failures=settings.sender.breaker_failures,
                reset_after_s=settings.sender.breaker_reset_seconds,
                is_failure=lambda error: isinstance(error, Unavailable | DeadlineExpired),
                clock=context.clock,
                on_change=reporter(context.telemetry),
            )
            senders[address] = Sender(
                address,
                context.cluster.partition_count,
                _caller(UnaryCall(CountingServiceStub(channel).Append, _APPEND, telemetry=context.telemetry)),
                breaker,
                settings.sender,
                context.clock,
            )
            for number in range(settings.sender.calls_at_once):
                context.background.start(f"calls to {address} #{number}", senders[address].run())
        router = Router(senders, context.cluster.partition_count, settings, context.clock)
        partitions = Partitions(context.cluster.partition_count)
        servicer = IngestServicer(
            Door(context.clock, partitions),
            Ingest(router, partitions, context.clock, context.telemetry),
            router,
            settings.stream_batches_at_once,
        )
        yield Opened(
            [Servable(NAME, lambda server: add_IngestServiceServicer_to_server(servicer, server))],
            is_ready=lambda: True,
        )


def _caller(call: UnaryCall[AppendRequest, AppendResponse]) -> Append:
    async def append(request: AppendRequest, timeout_s: float) -> AppendResponse:
        return await call(request, timeout_s=timeout_s)

    return append
