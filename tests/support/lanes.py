"""A lane between two real databases without gRPC: the real sender and receiver, and a pipe that can be cut anywhere."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import asyncpg

from libs.stores.postgres import PostgresSettings
from libs.telemetry.setup import OFF
from services.replication.epoch import confirm_epoch
from services.replication.lane import take_lane
from services.replication.metrics import ReplicationMetrics
from services.replication.peer_servicer import PeerServicer
from services.replication.pruning import prune_tombstones
from services.replication.receiver import LaneReceiver, SnapshotNeeded, rows_of
from services.replication.regions import put_own, put_region
from services.replication.settings import ReplicationSettings
from services.replication.snapshot import SnapshotExporter
from services.replication.snapshot_import import SnapshotImporter
from services.replication.sync import SyncService
from services.replication.transactions import TransactionManager
from tally.contract.errors import Unavailable
from tally.replication.v1 import peers_pb2 as pb

_QUIET_LOOKS = 3
"""So often the sender finds nothing to send before a stream counts as quiet."""
_SETTLED_SECONDS = 30.0


class Clock:
    """The machine's: a lane needs a clock only to say how far it is."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        return time.time_ns() // 1000


class Looks(asyncio.Event):
    """What a sender waits for when it has found nothing to send: counts how often that is."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet = asyncio.Condition()
        self._count = 0

    async def wait(self) -> Literal[True]:
        async with self._quiet:
            self._count += 1
            self._quiet.notify_all()
        return await super().wait()

    async def until_quiet(self) -> None:
        """Until the sender has found nothing several times from now on."""
        async with self._quiet:
            least = self._count + _QUIET_LOOKS
            await self._quiet.wait_for(lambda: self._count >= least)


@dataclass(slots=True)
class Meter:
    """What streams have sent, and how much of it had been acknowledged before."""

    rows: int = 0
    again: int = 0
    """rows that were sent although the receiver had acknowledged them"""
    chunks: int = 0
    acknowledged: set[tuple[Any, int]] = field(default_factory=set)
    """key and version of each row, by its acknowledgement"""

    def sent(self, frame: pb.SyncResponse) -> None:
        keys = _keys_of(frame)
        self.rows += len(keys)
        self.again += len(keys & self.acknowledged)


def _keys_of(frame: pb.SyncResponse) -> set[tuple[Any, int]]:
    return {
        (getattr(row, "key", None) or getattr(row, "uuid", None) or row, row.version)
        for row in rows_of(frame)
    }


class Call:
    """A call of `Sync`. It breaks after so many frames, or when nothing comes any more."""

    def __init__(
        self, sync: SyncService, requests: AsyncIterator[pb.SyncRequest], frames: int | None, meter: Meter
    ) -> None:
        self._frames = frames
        self._meter = meter
        self._sent: dict[int, set[tuple[Any, int]]] = {}
        self._queue: asyncio.Queue[pb.SyncResponse] = asyncio.Queue(1)
        self._looks = sync._changed = Looks()
        self._serving = asyncio.create_task(sync.serve(self._heard(requests), self._write))

    async def _write(self, frame: pb.SyncResponse) -> None:
        self._meter.sent(frame)
        self._sent[frame.frame] = _keys_of(frame)
        await self._queue.put(frame)

    async def _heard(self, requests: AsyncIterator[pb.SyncRequest]) -> AsyncIterator[pb.SyncRequest]:
        async for request in requests:
            if request.HasField("ack"):
                self._meter.acknowledged |= self._sent.pop(request.ack.frame, set())
            yield request

    def cancel(self) -> None:
        self._serving.cancel()

    async def __aiter__(self) -> AsyncIterator[pb.SyncResponse]:
        delivered = 0
        while self._frames is None or delivered < self._frames:
            getting = asyncio.ensure_future(self._queue.get())
            quiet = asyncio.ensure_future(self._looks.until_quiet())
            try:
                await asyncio.wait({getting, quiet, self._serving}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    if self._serving.done():
                        self._serving.result()
                    raise Unavailable("quiet")
            finally:
                quiet.cancel()
                getting.cancel()
            delivered += 1
            yield pb.SyncResponse.FromString(getting.result().SerializeToString())
        raise Unavailable("cut")


class Stub:
    """What the receiver calls in the place of a gRPC stub."""

    def __init__(
        self,
        sync: SyncService,
        servicer: PeerServicer,
        frames: int | None,
        chunks: int | None,
        meter: Meter,
    ) -> None:
        self._sync = sync
        self._servicer = servicer
        self._frames = frames
        self._chunks = chunks
        self._meter = meter

    def Sync(self, requests: AsyncIterator[pb.SyncRequest]) -> Call:  # noqa: N802 - the name of the rpc
        return Call(self._sync, requests, self._frames, self._meter)

    async def ExportDeviceState(self, request: Any, timeout: float) -> Any:  # noqa: N802, ASYNC109, ARG002
        return await self._servicer.ExportDeviceState(request, None)  # type: ignore[arg-type]

    async def ReadSnapshot(self, request: Any, timeout: float) -> Any:  # noqa: N802, ASYNC109, ARG002
        delivered = 0
        async for chunk in self._servicer.ReadSnapshot(request, None):  # type: ignore[arg-type]
            if delivered == self._chunks:
                raise Unavailable("cut")
            delivered += 1
            self._meter.chunks += 1
            yield chunk


class LaneUnderTest:
    """An owner and a receiver on two databases."""

    def __init__(
        self, owner_dsn: str, receiver_dsn: str, folder: Path, settings: ReplicationSettings
    ) -> None:
        self.owner_dsn = owner_dsn
        self._receiver_dsn = receiver_dsn
        self.folder = folder
        self._settings = settings
        self._holder = uuid.UUID(int=1)  # the same after a restart: its lease goes on
        self._stack = AsyncExitStack()
        self.meter = Meter()

    async def __aenter__(self) -> Self:
        self.owner, self.receiver = [
            await self._stack.enter_async_context(
                asyncpg.create_pool(dsn, min_size=1, max_size=6, command_timeout=20)
            )
            for dsn in (self.owner_dsn, self._receiver_dsn)
        ]
        identity = "select cluster_id from public.cluster"
        self.device = await self.owner.fetchval(identity)
        self.peer = await self.receiver.fetchval(identity)
        for pool, own, other in (
            (self.owner, self.device, self.peer),
            (self.receiver, self.peer, self.device),
        ):
            await put_own(pool, own, str(own), await confirm_epoch(pool))
            await put_region(pool, other, str(other), "elsewhere", "follow", 0)
        self.transactions = TransactionManager(self.owner, self.owner_dsn, PostgresSettings(), 20.0)
        self.sync = SyncService(self.owner, self._settings, Clock(), self.device)
        exporter = SnapshotExporter(self.owner, self._settings, Clock(), self.folder)
        self._servicer = PeerServicer(self.owner, self.sync, exporter, self.device, "owner")
        self._importer = SnapshotImporter(self.receiver, self._settings, self.peer, self.folder)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def stream(self, frames: int | None = None, chunks: int | None = None) -> None:
        """One stream of the lane, which is cut after so many frames, or when nothing comes any more.

        A snapshot that it is offered is loaded, but for what is behind the first `chunks` that are missing.
        """
        taken = await take_lane(self.receiver, self.device, self._holder, 5.0)
        assert taken is not None
        stub = Stub(self.sync, self._servicer, frames, chunks, self.meter)
        metrics = ReplicationMetrics(OFF, Clock())
        receiver = LaneReceiver(self.receiver, self._settings.receiver, metrics, self.peer, *taken)

        async def nothing() -> None:
            return None

        try:
            with suppress(Unavailable):
                await receiver.run(stub, nothing)
        except SnapshotNeeded as needed:
            held = await take_lane(self.receiver, self.device, self._holder, 5.0)
            assert held is not None
            with suppress(Unavailable):
                await self._importer.load(stub, held[0], needed.not_before)

    async def prune(self) -> int:
        """Prune every tombstone, as if its retention had ended."""
        return await prune_tombstones(self.owner, 0.0)

    async def rows(self) -> tuple[dict[uuid.UUID, tuple[Any, ...]], dict[uuid.UUID, tuple[Any, ...]]]:
        """Key → (location, name, version), at the owner and at the receiver."""
        there = await self.owner.fetch("select uuid, location, name, version from replication.entry")
        here = await self.receiver.fetch(
            "select uuid, location, name, version from replication.received_entry where device = $1",
            self.device,
        )
        return ({row[0]: tuple(row[1:]) for row in there}, {row[0]: tuple(row[1:]) for row in here})

    async def settle(self) -> None:
        """Streams until both ends are equal. Fails when they are not after a while."""
        deadline = time.monotonic() + _SETTLED_SECONDS
        while True:
            await self.stream()
            there, here = await self.rows()
            waiting = await self.receiver.fetchval(
                "select count(*) from replication.peer_state where state <> 'current'"
            )
            if there == here and not waiting:
                return
            if time.monotonic() > deadline:
                assert there == here
                raise AssertionError(f"{waiting} locations are still not loaded")
