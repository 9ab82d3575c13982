"""The lanes that come into this region: a task for each peer and model, which holds its lane or waits for it."""

import asyncio
import uuid
from contextlib import suppress
from typing import Any

import structlog

from libs.rpc.channel import open_channel
from libs.stores.postgres import AWAY
from services.replication import rollups, rows
from services.replication.lane import (
    RETRIES,
    Held,
    Position,
    count_data_loss,
    keep_lane,
    release_lane,
    set_problem,
    take_lane,
)
from services.replication.metrics import ReplicationMetrics
from services.replication.receiver import LaneReceiver, SnapshotNeeded
from services.replication.regions import Region, check_counts, list_regions
from services.replication.rollup_receiver import RollupReceiver
from services.replication.settings import ReplicationSettings
from services.replication.snapshot_import import SnapshotImporter
from tally.contract.errors import DataLoss, TallyError
from tally.replication.v1.peers_pb2_grpc import PeerServiceStub

_LOGGER = structlog.get_logger(__name__)


class Lanes:
    """Keeps the lanes running for each region that is known."""

    def __init__(
        self,
        pool: Any,
        bulk_pool: Any,
        settings: ReplicationSettings,
        metrics: ReplicationMetrics,
        own: uuid.UUID,
        importer: SnapshotImporter,
    ) -> None:
        """`pool`: for the transactions that apply frames; `bulk_pool`: for those of counts, which may take longer."""
        self._pool = pool
        self._bulk_pool = bulk_pool
        self._settings = settings
        self._metrics = metrics
        self._own = own
        self._importer = importer
        self._holder = uuid.uuid4()
        self._tasks: dict[tuple[uuid.UUID, str, str], asyncio.Task[None]] = {}
        self._is_closed = False

    async def reconcile(self) -> float | None:
        """One turn of a loop: lanes begin for regions that are new, and end for those that are gone."""
        regions = {
            (region.device, region.address, model): region
            for region in await list_regions(self._pool)
            if not region.is_own and region.address
            for model in (rows.MODEL, rollups.MODEL)
        }
        for key in self._tasks.keys() - regions.keys():
            await self._end(self._tasks.pop(key))
        if self._is_closed:
            return None
        for key, region in regions.items():
            if key not in self._tasks or self._tasks[key].done():
                self._tasks[key] = asyncio.create_task(
                    self._run(region, key[2]), name=f"lane of {region.device}, {key[2]}"
                )
        return None

    async def close(self) -> None:
        """End every lane. A turn that comes later begins none."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            await self._end(task)

    async def _end(self, task: "asyncio.Task[None]") -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _run(self, region: Region, model: str) -> None:
        """Stream after stream."""
        while True:
            problem = ""
            try:
                taken = await take_lane(
                    self._pool, region.device, self._holder, self._settings.receiver.lease_seconds, model
                )
                if taken is not None:
                    await self._stream(region, *taken)
            except DataLoss as error:
                problem = error.message
                with suppress(*AWAY):
                    if not await count_data_loss(self._pool, region.device, model):
                        problem = _stopped(region, problem)
            except TallyError as error:
                problem = error.message
            except AWAY as error:
                problem = f"Postgres is unreachable: {error!r}"
            if problem:
                _LOGGER.warning(
                    "lane broke; will begin a new stream",
                    device=str(region.device),
                    model=model,
                    error=problem,
                )
                with suppress(*AWAY):
                    await set_problem(self._pool, region.device, model, problem)
            await asyncio.sleep(self._settings.receiver.retry_seconds)

    async def _stream(self, region: Region, held: Held, position: Position) -> None:
        async with open_channel(region.address, self._settings.channel) as channel:
            stub = PeerServiceStub(channel)
            of_model: type[LaneReceiver | RollupReceiver] = LaneReceiver
            pool = self._pool
            if held.model == rollups.MODEL:
                of_model, pool = RollupReceiver, self._bulk_pool
            receiver = of_model(pool, self._settings.receiver, self._metrics, self._own, held, position)
            try:
                if held.model == rollups.MODEL:
                    await check_counts(self._pool)
                await receiver.run(stub, lambda: set_problem(self._pool, region.device, held.model, ""))
            except SnapshotNeeded as needed:
                _LOGGER.info("a snapshot is needed", device=str(region.device), reason=needed.reason)
                await self._load_snapshot(stub, region, needed)
            finally:
                with suppress(*AWAY):
                    await release_lane(self._pool, held)

    async def _load_snapshot(self, stub: Any, region: Region, needed: SnapshotNeeded) -> None:
        """In a new stream of the lane, which is kept until the snapshot is visible."""
        lease_s = self._settings.receiver.lease_seconds
        taken = await take_lane(self._pool, region.device, self._holder, lease_s)
        if taken is None:
            return
        held, _ = taken
        renewing = asyncio.create_task(keep_lane(self._pool, held))
        try:
            await self._importer.load(stub, held, needed.not_before)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with suppress(*AWAY):
                await release_lane(self._pool, held)


def _stopped(region: Region, problem: str) -> str:
    return (
        f"stopped after {RETRIES} retries: {problem}. Look at the network and the disks of both regions, then let it "
        f"begin again: tally regions add {region.address}"
    )
