"""Wiring of the partitioner."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from libs.rpc.admission import Admission
from libs.rpc.breaker import reporter
from libs.rpc.calls import UnaryCall
from libs.rpc.channel import open_channel
from libs.rpc.cluster_identity import identity_of
from libs.rpc.probe import Probe
from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.entries import ENQUEUE
from libs.runtime.service import Opened
from libs.telemetry import catalogue
from services.partitioner.intake.door import Door
from services.partitioner.intake.ingest import Ingest
from services.partitioner.routing.discovery import Discovery
from services.partitioner.routing.instance import Instance
from services.partitioner.routing.instances import Instances
from services.partitioner.routing.liveness import Liveness
from services.partitioner.routing.local import LocalTransport
from services.partitioner.routing.membership import AskIdentity, Membership
from services.partitioner.routing.placement import Placement
from services.partitioner.routing.remote import Append, RemoteTransport
from services.partitioner.routing.router import Router
from services.partitioner.servicer import IngestServicer
from services.partitioner.settings import PartitionerSettings
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.breaker import Breaker
from tally.contract.errors import ClusterMismatch, NotReady, Overloaded, Rejected
from tally.counting.v1.counting_pb2 import (
    AppendRequest,
    AppendResponse,
    GetClusterRequest,
    GetClusterResponse,
)
from tally.counting.v1.counting_pb2_grpc import CountingServiceStub
from tally.ingest.v1.ingest_pb2_grpc import add_IngestServiceServicer_to_server

NAME = "tally.ingest.v1.IngestService"
_COUNTING = "tally.counting.v1.CountingService"


@asynccontextmanager
async def open_partitioner(context: Context, settings: PartitionerSettings) -> AsyncIterator[Opened]:
    """Open a partitioner that sends to the shards of its settings. Raises NotReady when none are set.

    A shard in this process is called without gRPC; its address is then for clients that cut their requests themselves.
    """
    if not settings.shards:
        raise NotReady("no counting shards are set. Set TALLY_PARTITIONER__SHARDS='[\"host:port\", …]'")
    if (enqueue := context.handles.get(ENQUEUE)) is not None:
        placement = Placement.over(
            dict.fromkeys(settings.shards, LocalTransport(enqueue)), context.cluster.partition_count
        )
        yield _open(context, settings, lambda: placement, is_ready=lambda: True)
        return
    instances = Instances(
        Discovery(settings.shards, settings.resolve_seconds, telemetry=context.telemetry),
        lambda address: _connect(address, context, settings),
        context.cluster.partition_count,
        settings.sender.calls_at_once,
        context.background,
    )
    catalogue.observe(context.telemetry.meter, catalogue.SHARDS_KNOWN, lambda: instances.known_count)
    catalogue.observe(context.telemetry.meter, catalogue.SHARDS_LIVE, lambda: instances.live_count)
    instances.start()
    try:
        # Ready once it has met a live shard. From then on it stays so, since it holds what can wait for a shard: if it
        # said NOT_SERVING whenever all shards are away, balancers would fail those calls at once.
        yield _open(context, settings, lambda: instances.placement, is_ready=lambda: instances.was_any_live)
    finally:
        await instances.close()


def _open(
    context: Context,
    settings: PartitionerSettings,
    read_placement: Callable[[], Placement],
    is_ready: Callable[[], bool],
) -> Opened:
    router = Router(read_placement, context.cluster.partition_count, settings, context.clock)
    admission = Admission(settings.max_bytes_under_way)
    catalogue.observe(context.telemetry.meter, catalogue.ADMITTED_BYTES, lambda: admission.bytes)
    servicer = IngestServicer(
        admission,
        Door(context.clock),
        Ingest(router, context.clock, context.telemetry),
        router,
        settings.stream_batches_at_once,
        identity_of(context.cluster),
    )
    return Opened(
        [Servable(NAME, lambda server: add_IngestServiceServicer_to_server(servicer, server), admission)],
        is_ready=is_ready,
    )


def _connect(address: str, context: Context, settings: PartitionerSettings) -> Instance:
    """One instance of a shard; it connects with the first probe."""
    channel = open_channel(address, settings.channel)
    liveness = Liveness(
        context.clock, failures=settings.probe.failures, timeout_s=settings.probe.timeout_seconds
    )
    stub = CountingServiceStub(channel)
    call = UnaryCall(stub.Append, f"/{_COUNTING}/Append", telemetry=context.telemetry)
    own = identity_of(context.cluster)
    ask_identity = _identity_asker(UnaryCall(stub.GetCluster, f"/{_COUNTING}/GetCluster"))
    membership = Membership(address, own, Probe(channel, _COUNTING).is_serving, ask_identity)
    breaker = Breaker(
        f"counting shard {address}",
        failures=settings.sender.breaker_failures,
        reset_after_s=settings.sender.breaker_reset_seconds,
        # What it refuses it has understood; any other answer is that of a shard that is away or broken.
        is_failure=lambda error: not isinstance(error, Overloaded | Rejected | ClusterMismatch),
        now=context.clock.monotonic,
        on_change=reporter(context.telemetry),
    )
    transport = RemoteTransport(
        address,
        own,
        _caller(call, liveness, membership),
        breaker,
        settings.sender,
        context.clock,
    )
    return Instance(
        address, transport, liveness, membership.is_serving, settings.probe, context.clock, channel.close
    )


def _identity_asker(call: UnaryCall[GetClusterRequest, GetClusterResponse]) -> AskIdentity:
    async def ask(timeout_s: float) -> ClusterIdentity:
        return (await call(GetClusterRequest(), timeout_s=timeout_s)).cluster

    return ask


def _caller(
    call: UnaryCall[AppendRequest, AppendResponse], liveness: Liveness, membership: Membership
) -> Append:
    async def append(request: AppendRequest, timeout_s: float) -> AppendResponse:
        try:
            response = await call(request, timeout_s=timeout_s)
        except ClusterMismatch:
            membership.doubt()
            raise
        liveness.note_sign()
        return response

    return append
