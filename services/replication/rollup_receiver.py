"""The receiver of a lane of counts. A pass becomes visible as a whole, when it is complete."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.replication import rollup_store as store
from services.replication.hashing import Sums
from services.replication.lane import Held, Position, advance_lane, keep_lane, restart_lane
from services.replication.metrics import ReplicationMetrics
from services.replication.receiver import CODECS
from services.replication.rollups import (
    COLUMNS_HASH,
    MODEL,
    RollupRow,
    compare_sums,
    sum_rows,
    unpack_rollups,
)
from services.replication.rows import to_time
from services.replication.settings import ReceiverSettings
from services.replication.stream import Stream
from services.replication.wire import read_sums
from tally.contract.errors import DataLoss, PeerMismatch
from tally.replication.v1 import peers_pb2 as pb


class RollupReceiver:
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
        """`pool`: for the transactions that apply frames, of which the one that shows a pass may take long."""
        self._pool = pool
        self._settings = settings
        self._metrics = metrics
        self._own = own
        self._held = held
        self._device = held.device
        self._position = position
        self._epoch = position.epoch
        self._received = Sums()

    async def run(self, stub: Any, on_progress: Callable[[], Awaitable[None]]) -> None:
        """Apply frames until the stream ends or breaks. Raises TallyError, and what is in AWAY.

        `on_progress` is called after the first frame.
        """
        subscription = await self._subscription()
        await Stream().run(stub, subscription, self._apply, on_progress, keep_lane(self._pool, self._held))

    async def _subscription(self) -> pb.Subscribe:
        position, load = self._position, await store.read_load(self._pool, self._device)
        subscription = pb.Subscribe(
            peer_device_id=str(self._own),
            device_id=str(self._device),
            model_type=MODEL,
            columns_hash=COLUMNS_HASH,
            epoch=position.epoch,
            watermark=position.watermark,
            closing_word=position.word,
            credit=self._settings.window_frames,
            codecs=CODECS,
            stream=self._held.stream,
        )
        if load is not None and load.after is not None:  # one without a page may as well begin anew
            subscription.open_load.CopyFrom(
                pb.OpenLoad(
                    begun_at=load.begun_at, after=load.after, is_complete=load.is_complete, epoch=load.epoch
                )
            )
            subscription.closing_word = load.word
            self._epoch = load.epoch
        return subscription

    async def _apply(self, frame: pb.SyncResponse) -> None:
        kind = frame.WhichOneof("message")
        if kind == "load_begin":
            self._epoch = frame.epoch
        if frame.epoch != self._epoch:
            raise PeerMismatch(
                f"a frame of epoch {frame.epoch} came in a stream of epoch {self._epoch}; a new stream begins"
            )
        rows = unpack_rollups(frame.state_batch) if kind == "state_batch" else []
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await advance_lane(connection, self._held, frame.frame)
                await self._apply_kind(connection, kind, frame, rows)
        except DataLoss:
            if kind == "load_complete":
                await store.drop_load(self._pool, self._device)
            raise
        if kind == "pass_complete":
            await restart_lane(self._pool, self._held)

    async def _apply_kind(
        self, connection: Any, kind: str | None, frame: pb.SyncResponse, rows: Sequence[RollupRow]
    ) -> None:
        load = await store.read_load(connection, self._device)
        is_loading = load is not None and not load.is_complete
        match kind:
            case "load_begin":
                self._received = Sums()
                await store.begin_load(connection, self._device, frame.epoch, frame.load_begin.target)
            case "state_batch" if frame.state_batch.HasField("last_key"):
                if load is None or load.is_complete:
                    raise PeerMismatch("a page of counts came outside of a load; a new stream begins")
                await store.put_loaded(connection, self._device, load, rows, frame.state_batch)
                self._count(rows, frame)
            case "load_complete":
                compare_sums("load", read_sums(frame.load_complete.sent), self._received)
                await store.end_load(connection, self._device)
            case "pass_begin" if not is_loading:
                self._received = Sums()
                await store.begin_pass(connection, self._device)
            case "state_batch" if not is_loading:
                await store.put_passed(connection, self._device, rows)
                self._count(rows, frame)
            case "pass_complete" if not is_loading:
                await self._show(connection, frame.pass_complete)
            case _:
                raise PeerMismatch(
                    "the owner sends what this version does not know here; upgrade this region first"
                )

    async def _show(self, connection: Any, closing: pb.PassComplete) -> None:
        compare_sums("pass", read_sums(closing.sent), self._received)
        as_of = to_time(closing.as_of.ToMicroseconds())
        await store.show_pass(connection, self._device, self._epoch, closing, as_of)

    def _count(self, rows: Sequence[RollupRow], frame: pb.SyncResponse) -> None:
        sum_rows(rows, self._received)
        self._metrics.received(len(rows), frame.ByteSize(), 0)
