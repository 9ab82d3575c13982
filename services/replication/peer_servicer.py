"""PeerService: protobuf ↔ lanes, snapshots and comparisons, for other regions."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.replication.checks import read_uuid
from services.replication.epoch import confirm_epoch, confirm_life
from services.replication.regions import is_peer
from services.replication.rows import MODEL
from services.replication.snapshot import SnapshotExporter
from services.replication.sync import SyncService
from services.replication.verify import sum_own
from services.replication.wire import write_sums
from services.replication.words import make_word
from tally.contract.errors import InvalidRequest, PeerMismatch, Violation
from tally.replication.v1 import peers_pb2 as pb
from tally.replication.v1.peers_pb2_grpc import PeerServiceServicer

_MAX_LOCATIONS = 10_000


class PeerServicer(PeerServiceServicer):
    """Serves the rows of this region to others."""

    def __init__(
        self,
        pool: Any,
        sync: SyncService,
        exporter: SnapshotExporter,
        device: uuid.UUID,
        name: str,
        pause_seconds: float = 0.0,
    ) -> None:
        """`pool`: for long statements. `pause_seconds`: between two chunks of a snapshot."""
        self._pause_seconds = pause_seconds
        self._pool = pool
        self._sync = sync
        self._exporter = exporter
        self._device = device
        self._name = name

    async def GetRegion(self, request: pb.GetRegionRequest, context: ServicerContext) -> pb.GetRegionResponse:
        with reaching_postgres():
            epoch = await confirm_epoch(self._pool)
        return pb.GetRegionResponse(device_id=str(self._device), name=self._name, epoch=epoch)

    async def Sync(  # type: ignore[override]  # the types know generators alone; this one writes
        self, request_iterator: AsyncIterator[pb.SyncRequest], context: ServicerContext
    ) -> None:
        await self._sync.serve(request_iterator, context.write)

    async def ExportDeviceState(
        self, request: pb.ExportDeviceStateRequest, context: ServicerContext
    ) -> pb.ExportDeviceStateResponse:
        peer = read_uuid(request.peer_device_id, "peer_device_id")
        resumed = request.resumed_snapshot_id and read_uuid(
            request.resumed_snapshot_id, "resumed_snapshot_id"
        )
        with reaching_postgres():
            self._check_owner(request.device_id)
            if not await is_peer(self._pool, peer):
                raise PeerMismatch(
                    f"region {peer} is not known here. Make it known: tally regions add HOST:PORT"
                )
            life = await confirm_life(self._pool)
            manifest = await self._exporter.export_device_snapshot(
                self._device, life, request.not_before, resumed or None
            )
            manifest.closing_word = await make_word(self._pool, peer, MODEL, life, manifest.watermark)
        return manifest

    async def ReadSnapshot(
        self, request: pb.ReadSnapshotRequest, context: ServicerContext
    ) -> AsyncIterator[pb.ReadSnapshotResponse]:
        number = request.first_chunk
        export = read_uuid(request.snapshot_id, "snapshot_id")
        with reaching_postgres():
            while (chunk := await self._exporter.read_chunk(export, number)) is not None:
                yield chunk
                number += 1
                if self._pause_seconds:
                    await asyncio.sleep(self._pause_seconds)

    async def Compare(self, request: pb.CompareRequest, context: ServicerContext) -> pb.CompareResponse:
        self._check_owner(request.device_id)
        if len(request.location_ids) > _MAX_LOCATIONS:
            raise InvalidRequest([Violation("location_ids", f"must be at most {_MAX_LOCATIONS:,}")])
        locations = [read_uuid(each, f"location_ids[{n}]") for n, each in enumerate(request.location_ids)]
        with reaching_postgres():
            found = await sum_own(self._pool, locations, request.watermark)
        return pb.CompareResponse(
            locations=[
                pb.LocationSums(
                    location_id=str(each),
                    entries=write_sums(found[each].sums),
                    changed_count=found[each].changed,
                )
                for each in locations
            ]
        )

    def _check_owner(self, device_id: str) -> None:
        if device_id != str(self._device):
            raise PeerMismatch(f"this is region {self._device}, and {device_id or 'none'} was asked for")
