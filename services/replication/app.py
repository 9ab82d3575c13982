"""Wiring of the replication service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.loop import Loop
from libs.runtime.service import Opened
from libs.stores.pool import open_pool
from libs.stores.postgres import reaching_postgres, time_limits
from services.replication.entry_servicer import EntryServicer
from services.replication.epoch import confirm_epoch
from services.replication.lanes import Lanes
from services.replication.metrics import ReplicationMetrics
from services.replication.notices import Announcer, Listener
from services.replication.peer_servicer import PeerServicer
from services.replication.peering import Peering
from services.replication.progress import prune_transfers
from services.replication.pruning import prune_tombstones
from services.replication.regions import put_own
from services.replication.replication_servicer import ReplicationServicer
from services.replication.rollup_sender import PASSES_AT_ONCE, PassReading
from services.replication.rollup_store import prune_copies
from services.replication.settings import ReplicationSettings
from services.replication.snapshot import SnapshotExporter
from services.replication.snapshot_import import SnapshotImporter
from services.replication.sync import SyncService
from services.replication.transactions import TransactionManager
from tally.replication.v1.entries_pb2_grpc import add_EntryServiceServicer_to_server
from tally.replication.v1.peers_pb2_grpc import add_PeerServiceServicer_to_server
from tally.replication.v1.replication_pb2_grpc import add_ReplicationServiceServicer_to_server

NAME = "tally.replication.v1.EntryService"
PEERS = "tally.replication.v1.PeerService"
REPLICATION = "tally.replication.v1.ReplicationService"
_LANES_SECONDS = 1.0
_PEERS_SECONDS = 2.0
_LISTENER_SECONDS = 1.0
_TURN_SECONDS = 30.0
_PRUNED_ROWS = 10_000


@asynccontextmanager
async def open_replication(context: Context, settings: ReplicationSettings) -> AsyncIterator[Opened]:
    """Open a replication service. Its peers need not be there."""
    device = context.cluster.cluster_id
    name = settings.name or str(device)[:8]
    seconds = settings.statement_timeout_seconds
    folder = context.data_dir.absolute() / "replication"
    metrics = ReplicationMetrics(context.telemetry, context.clock)
    async with (
        open_pool(
            context.dsn,
            context.postgres,
            "tally replication lanes",
            statement_seconds=settings.apply_timeout_seconds,
            server_settings=time_limits(settings.apply_timeout_seconds),
        ) as lane_pool,
        open_pool(
            context.dsn,
            context.postgres,
            "tally replication bulk",
            statement_seconds=seconds,
            server_settings=time_limits(seconds),
        ) as bulk_pool,
        open_pool(
            context.dsn,
            context.postgres.model_copy(update={"pool_size": PASSES_AT_ONCE}),
            "tally replication passes",
            statement_seconds=seconds,
            server_settings=time_limits(seconds),
        ) as pass_pool,
    ):
        with reaching_postgres():
            await put_own(context.pool, device, name, await confirm_epoch(context.pool))
        transactions = TransactionManager(context.pool, context.dsn, context.postgres, seconds)
        announcer = Announcer(context.pool)
        folder.mkdir(parents=True, exist_ok=True)
        reading = PassReading(pass_pool, folder)
        sync = SyncService(bulk_pool, settings, context.clock, device, announcer.announce, reading)
        listener = Listener(context.dsn, context.postgres, sync.wake)
        context.background.start("replication notices", announcer.run())
        exporter = SnapshotExporter(bulk_pool, settings, context.clock, folder)
        importer = SnapshotImporter(bulk_pool, settings, device, folder)
        lanes = Lanes(lane_pool, bulk_pool, settings, metrics, device, importer)
        peering = Peering(bulk_pool, device, settings.channel, settings.peers)

        async def prune() -> None:
            await prune_tombstones(bulk_pool, settings.tombstones.retention_seconds)
            await exporter.remove_old()
            await prune_transfers(bulk_pool)
            while await prune_copies(bulk_pool, _PRUNED_ROWS):
                pass

        for loop in (
            Loop(
                "replication lanes",
                lanes.reconcile,
                interval_seconds=_LANES_SECONDS,
                deadline_seconds=_TURN_SECONDS,
                telemetry=context.telemetry,
            ),
            Loop(
                "replication peers",
                peering.put_configured,
                interval_seconds=_PEERS_SECONDS,
                deadline_seconds=_TURN_SECONDS,
                telemetry=context.telemetry,
            ),
            Loop(
                "replication listener",
                listener.turn,
                interval_seconds=_LISTENER_SECONDS,
                deadline_seconds=_TURN_SECONDS,
                telemetry=context.telemetry,
            ),
            Loop(
                "replication pruning",
                prune,
                interval_seconds=settings.tombstones.prune_seconds,
                deadline_seconds=seconds,
                telemetry=context.telemetry,
            ),
        ):
            context.background.start(loop.name, loop.run())
        entries = EntryServicer(context.pool, transactions, sync, device)
        peers = PeerServicer(bulk_pool, sync, exporter, device, name, settings.sender.pause_seconds)
        operators = ReplicationServicer(bulk_pool, peering, settings, metrics)
        try:
            yield Opened(
                [
                    Servable(NAME, lambda server: add_EntryServiceServicer_to_server(entries, server)),
                    Servable(PEERS, lambda server: add_PeerServiceServicer_to_server(peers, server)),
                    Servable(
                        REPLICATION,
                        lambda server: add_ReplicationServiceServicer_to_server(operators, server),
                    ),
                ],
                is_ready=lambda: True,
            )
        finally:
            listener.close()
            await lanes.close()
