"""The owner's end of the lane of its counts: a load if the peer has no valid watermark, then one pass after the other.

A pass is read in one snapshot, and sent after that. A load is read page by page, each in a snapshot of its own. The
peer shows it together with the pass that follows, which begins from the snapshot before the first page: so what was
flushed between two pages is in that pass (T003-38). Passes read the rollups outside of the flush, and less often the
longer they take.
"""

import asyncio
import secrets
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.domain.clock import Clock
from services.replication import words
from services.replication.epoch import Life
from services.replication.hashing import Sums
from services.replication.rollup_file import PassFile
from services.replication.rollup_source import RollupSource, TooOld
from services.replication.rollups import MODEL, RollupRow, key_of, sum_rows, write_rollups
from services.replication.settings import ReplicationSettings
from services.replication.window import Window
from services.replication.wire import compress_batch, write_sums
from tally.replication.v1 import peers_pb2 as pb

PASSES_AT_ONCE = 2
"""So many passes are read at once by a process: each reads all rollups."""


@dataclass(frozen=True, slots=True)
class PassReading:
    """What all passes of a process are read with. `folder`: for passes that are large."""

    pool: Any
    folder: Path | None = None
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PASSES_AT_ONCE))


class RollupSender:
    """Makes the frames of one stream."""

    def __init__(
        self,
        pool: Any,
        settings: ReplicationSettings,
        clock: Clock,
        device: uuid.UUID,
        life: Life,
        subscription: pb.Subscribe,
        reading: PassReading,
    ) -> None:
        """`subscription`: its watermark and its load are valid for continuing, or absent."""
        self._pool = pool
        self._source = RollupSource(pool, life, reading.pool)
        self._reading = reading
        self._settings = settings
        self._clock = clock
        self._device = device
        self._life = life
        self._peer = uuid.UUID(subscription.peer_device_id)
        self._codecs = tuple(subscription.codecs)
        self._watermark = subscription.watermark
        self._load = subscription.open_load if subscription.HasField("open_load") else None
        self._window = Window(pool, self._peer, MODEL, life.epoch, subscription.credit)

    def fetch(self, request: pb.Fetch) -> None:
        """Nothing is loaded on demand: counts are always followed (T003-40)."""

    async def acknowledge(self, ack: pb.Ack) -> None:
        """A frame is committed at the receiver."""
        await self._window.acknowledge(ack)

    async def frames(self) -> AsyncGenerator[pb.SyncResponse]:
        """The frames, for as long as the stream lives."""
        while True:
            if self._load is not None or not self._watermark:
                async with aclosing(self._frames_of_load()) as frames:
                    async for response in frames:
                        yield await self._window.number(response)
            began = self._clock.monotonic()
            try:
                async with aclosing(self._frames_of_pass()) as frames:
                    async for response in frames:
                        yield await self._window.number(response)
            except TooOld:
                self._watermark, self._load = "", None
                continue
            took = self._clock.monotonic() - began
            rollups = self._settings.rollups
            await asyncio.sleep(max(rollups.pass_seconds, took / rollups.most_busy_share) - took)

    async def _frames_of_load(self) -> AsyncGenerator[pb.SyncResponse]:
        load, transfer, sent = self._load, secrets.token_bytes(16), Sums()
        if load is None:
            begun_at, rows = await self._source.begin_load()
            load = pb.OpenLoad(begun_at=begun_at)
            begin = pb.LoadBegin(target=begun_at, rows=rows, replaces=True)
            yield pb.SyncResponse(transfer_id=transfer, load_begin=begin)
        after = load.after if load.HasField("after") else None
        while not load.is_complete:
            page = await self._source.read_page(load.begun_at, after, self._settings.sender.batch_size)
            if not page:
                complete = pb.LoadComplete(sent=write_sums(sent))
                yield pb.SyncResponse(transfer_id=transfer, load_complete=complete)
                break
            sum_rows(page, sent)
            after = key_of(page[-1])
            batch = self._pack(page)
            batch.last_key.CopyFrom(after)
            batch.word = await self._make_word(load.begun_at)
            yield pb.SyncResponse(transfer_id=transfer, state_batch=batch)
        self._watermark, self._load = load.begun_at, None

    async def _frames_of_pass(self) -> AsyncGenerator[pb.SyncResponse]:
        transfer, sent = secrets.token_bytes(16), Sums()
        with PassFile(self._reading.folder) as file:
            async with (
                self._reading.turns,
                self._source.open_pass(self._watermark, self._settings.sender.batch_size) as found,
            ):
                async for page in found.pages:
                    sum_rows(page, sent)
                    await file.put(self._pack(page))
            # Without a word: nothing of it is shown before the closing message, which has one.
            begin = pb.PassBegin(target=found.target)
            begin.as_of.FromMicroseconds(found.as_of_us)
            yield pb.SyncResponse(transfer_id=transfer, pass_begin=begin)
            async with aclosing(file.batches()) as batches:
                async for batch in batches:
                    yield pb.SyncResponse(transfer_id=transfer, state_batch=batch)
        closing = pb.PassComplete(
            watermark=found.target, closing_word=await self._make_word(found.target), sent=write_sums(sent)
        )
        closing.as_of.FromMicroseconds(found.as_of_us)
        self._watermark = found.target
        yield pb.SyncResponse(transfer_id=transfer, pass_complete=closing)

    async def _make_word(self, watermark: str) -> int:
        return await words.make_word(self._pool, self._peer, MODEL, self._life, watermark)

    def _pack(self, rows: Sequence[RollupRow]) -> pb.StateBatch:
        packed = compress_batch(
            write_rollups(rows).SerializeToString(), self._codecs, self._settings.sender.gzip_level
        )
        return pb.StateBatch(
            model_type=MODEL,
            device_id=self._device.bytes,
            codec=packed.codec,
            unpacked_bytes=packed.unpacked_bytes,
            checksum=packed.checksum,
            columns=packed.data,
        )
