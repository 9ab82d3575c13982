"""The receiver of one lane: it calls the owner, subscribes from its watermark, and applies the frames.

A frame, its cursor and its watermark are applied in one transaction, which advances the lane; the acknowledgement with
new credit follows the commit. Everything that is needed to go on after a crash is in the tables.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from services.replication import apply, progress, state
from services.replication.hashing import COLUMNS_HASH, Sums
from services.replication.lane import Held, Position, advance_lane, keep_lane, restart_lane
from services.replication.metrics import ReplicationMetrics
from services.replication.rows import MODEL, Row, to_time
from services.replication.settings import ReceiverSettings
from services.replication.stream import Stream
from services.replication.wire import (
    read_change,
    read_place,
    read_sums,
    unpack_batch,
    uuid_of,
    write_place,
    write_sums,
)
from tally.contract.errors import DataLoss, PeerMismatch, StaleFrame
from tally.replication.v1 import peers_pb2 as pb

CODECS = (pb.CODEC_GZIP, pb.CODEC_IDENTITY)
_JOBS_SECONDS = 1.0


class SnapshotNeeded(Exception):
    """The owner cannot continue with passes: a snapshot must be loaded first."""

    def __init__(self, reason: str, not_before: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.not_before = not_before


@dataclass(slots=True)
class _Loading:
    """A load of this stream."""

    replaces: bool
    received: Sums = field(default_factory=Sums)


class LaneReceiver:
    """One stream of a lane."""

    def __init__(
        self,
        pool: Any,
        settings: ReceiverSettings,
        metrics: ReplicationMetrics,
        own: uuid.UUID,
        held: Held,
        position: Position,
    ) -> None:
        """`pool`: for the transactions that apply frames."""
        self._pool = pool
        self._settings = settings
        self._metrics = metrics
        self._own = own
        self._held = held
        self._device = held.device
        self._position = position
        self._received = position.received or Sums()
        self._transfer: uuid.UUID | None = None
        self._loads: dict[uuid.UUID, _Loading] = {}
        self._stream = Stream()
        self._jobs_wanted = asyncio.Event()

    async def run(self, stub: Any, on_progress: Callable[[], Awaitable[None]]) -> None:
        """Apply frames until the stream ends or breaks. Raises SnapshotNeeded, TallyError, and what is in AWAY.

        `on_progress` is called after the first frame.
        """
        await self._stream.run(
            stub,
            self._subscription(),
            self._apply,
            on_progress,
            keep_lane(self._pool, self._held),
            self._ask_for_loads(),
        )

    def _subscription(self) -> pb.Subscribe:
        position = self._position
        subscription = pb.Subscribe(
            peer_device_id=str(self._own),
            device_id=str(self._device),
            model_type=MODEL,
            columns_hash=COLUMNS_HASH,
            epoch=position.epoch,
            watermark=position.watermark,
            closing_word=position.word,
            behind=[str(location) for location in position.behind],
            credit=self._settings.window_frames,
            codecs=CODECS,
            stream=self._held.stream,
        )
        if position.target:
            subscription.open_pass.CopyFrom(
                pb.OpenPass(
                    target=position.target,
                    cursor=write_place(position.place),
                    received=write_sums(self._received),
                )
            )
            if position.target_as_of is not None:
                subscription.open_pass.as_of.FromDatetime(position.target_as_of)
        return subscription

    async def _ask_for_loads(self) -> None:
        """Request the locations to load: jobs are rows, and each stream requests them again."""
        while self._position.watermark:
            for job in await state.list_jobs(self._pool, self._device, self._settings.load_jobs):
                if job.location in self._loads:
                    continue
                self._loads[job.location] = _Loading(job.replaces)
                fetch = pb.Fetch(
                    location_id=str(job.location),
                    from_watermark="" if job.replaces else job.loaded_to or "",
                    is_resumed=job.is_loading,
                )
                if job.is_loading and job.load_key is not None:
                    fetch.after_key = job.load_key.bytes
                await self._stream.send(pb.SyncRequest(fetch=fetch))
            self._jobs_wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_JOBS_SECONDS):
                    await self._jobs_wanted.wait()
        await asyncio.Event().wait()

    async def _apply(self, frame: pb.SyncResponse) -> None:
        kind = frame.WhichOneof("message")
        if kind == "snapshot_available":
            raise SnapshotNeeded(frame.snapshot_available.reason, frame.snapshot_available.not_before)
        if frame.epoch != self._position.epoch:
            raise PeerMismatch(
                f"a frame of epoch {frame.epoch} came in a stream of epoch {self._position.epoch}; a new stream begins"
            )
        rows = rows_of(frame)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await advance_lane(connection, self._held, frame.frame)
                await self._apply_kind(connection, kind, frame, rows)
        except DataLoss:
            if kind == "load_complete":
                location = uuid_of(frame.load_complete.location_id)
                await state.restart_load(self._pool, self._device, location)
            else:
                await apply.forget_pass(self._pool, self._device)
            raise
        if kind in ("pass_complete", "load_complete"):
            await restart_lane(self._pool, self._held)
        if kind in ("bulk_index_complete", "load_complete"):
            self._jobs_wanted.set()
        if kind == "load_complete":
            self._loads.pop(uuid_of(frame.load_complete.location_id), None)

    async def _apply_kind(
        self, connection: Any, kind: str | None, frame: pb.SyncResponse, rows: list[Row]
    ) -> None:
        match kind:
            case "pass_begin":
                await self._begin_pass(connection, frame)
            case "state_change":
                await self._apply_pass_rows(connection, rows, frame.state_change.cursor, frame.ByteSize())
            case "state_batch" if frame.state_batch.cursor.changed:
                await self._apply_pass_rows(connection, rows, frame.state_batch.cursor, frame.ByteSize())
            case "state_batch":
                await self._apply_load_rows(connection, rows, frame)
            case "bulk_index_complete":
                await state.on_peer_bulk_index_complete(connection, self._device, frame.bulk_index_complete)
            case "pass_complete":
                await self._complete_pass(connection, frame.pass_complete)
            case "load_begin":
                await self._begin_load(connection, frame.load_begin)
            case "load_complete":
                await self._complete_load(connection, frame.load_complete)
            case _:
                raise PeerMismatch(
                    "the owner sends what this version does not know; upgrade this region first"
                )

    async def _begin_pass(self, connection: Any, frame: pb.SyncResponse) -> None:
        begin = frame.pass_begin
        is_resumed = begin.target == self._position.target
        await apply.begin_pass(
            connection, self._device, begin.target, to_time(begin.as_of.ToMicroseconds()), begin.word
        )
        if not is_resumed:
            self._received = Sums()
        self._transfer = None
        if begin.rows:
            open_ = await progress.find_open(connection, self._device, "batch", progress.RECEIVING)
            self._transfer = open_ if open_ and is_resumed else uuid.UUID(bytes=frame.transfer_id)
            await progress.begin_transfer(
                connection, self._transfer, self._device, "batch", progress.RECEIVING, begin.rows
            )

    async def _apply_pass_rows(self, connection: Any, rows: list[Row], cursor: pb.Cursor, size: int) -> None:
        again = await apply.apply_rows(connection, self._device, self._position.epoch, rows)
        received = Sums(self._received.rows, self._received.high, self._received.low).add_all(rows)
        await apply.move_cursor(connection, self._device, read_place(cursor), received)
        self._received = received
        await self._count(connection, self._transfer, progress.RECEIVING, len(rows), size, again)

    async def _complete_pass(self, connection: Any, closing: pb.PassComplete) -> None:
        sent = read_sums(closing.sent)
        if sent != self._received:
            raise DataLoss(f"a pass had {sent} at the owner, and {self._received} here; it begins anew")
        as_of = to_time(closing.as_of.ToMicroseconds())
        if not await apply.complete_pass(
            connection, self._device, closing.watermark, closing.closing_word, as_of
        ):
            raise StaleFrame("a pass was closed that is not the one in progress; a new stream begins")
        if self._transfer is not None:
            await progress.end_transfer(connection, self._transfer)
        self._transfer = None
        self._metrics.reached(self._device, closing.as_of.ToMicroseconds())

    async def _begin_load(self, connection: Any, begin: pb.LoadBegin) -> None:
        location = uuid_of(begin.location_id)
        self._loads[location] = _Loading(begin.replaces)
        transfer = await state.begin_load(connection, self._device, location, replaces=begin.replaces)
        if transfer is not None:
            await progress.begin_transfer(
                connection, transfer, self._device, "notify", progress.LOADING, begin.rows
            )

    async def _apply_load_rows(self, connection: Any, rows: list[Row], frame: pb.SyncResponse) -> None:
        batch = frame.state_batch
        place = read_place(batch.cursor)
        load = self._loads[place.location]
        await apply.keep_word(connection, self._device, batch.word)
        if batch.replaces:
            after = uuid_of(batch.after_key)
            await apply.delete_absent(connection, self._device, place.location, after, place.key, rows)
        again = await apply.apply_rows(connection, self._device, self._position.epoch, rows)
        load.received.add_all(rows)
        transfer = await state.move_load(connection, self._device, place.location, place.key)
        await self._count(connection, transfer, progress.LOADING, len(rows), frame.ByteSize(), again)

    async def _complete_load(self, connection: Any, complete: pb.LoadComplete) -> None:
        location = uuid_of(complete.location_id)
        sent, received = read_sums(complete.sent), self._loads[location].received
        if sent != received:
            raise DataLoss(f"a load had {sent} at the owner, and {received} here; it begins anew")
        transfer = await state.end_load(connection, self._device, location)
        if transfer is not None:
            await progress.end_transfer(connection, transfer)

    async def _count(
        self, connection: Any, transfer: uuid.UUID | None, phase: str, rows: int, size: int, again: int
    ) -> None:
        if transfer is not None:
            await progress.add_progress(connection, transfer, phase, rows=rows, size=size, again=again)
        self._metrics.received(rows, size, again)


def rows_of(frame: pb.SyncResponse) -> list[Row]:
    """The rows in a frame. Raises InvalidRequest and DataLoss."""
    if frame.HasField("state_change"):
        return [read_change(frame.state_change)]
    if frame.HasField("state_batch"):
        return unpack_batch(frame.state_batch)
    return []
