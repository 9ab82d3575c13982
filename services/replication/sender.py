"""The owner's end of a lane: the frames that one peer gets, one after the other.

Passes and loads take turns, page by page, and each page is read after the one before: so no frame is of an older
snapshot than an earlier one, and a small change waits for one page at most. Nothing is queued but what the peer has
asked for; what has to be sent follows from the tables and from the peer's watermark.
"""

import asyncio
import secrets
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from libs.domain.clock import Clock
from services.replication import words
from services.replication.epoch import Life
from services.replication.hashing import Sums
from services.replication.passes import (
    BelowFloor,
    Changed,
    Placed,
    count_load,
    plan_pass,
    read_load_page,
    read_page,
    read_sizes,
)
from services.replication.rows import LAST, MODEL, NIL, START, Place, Row
from services.replication.settings import ReplicationSettings
from services.replication.strategy import PeerState, Strategy, select_strategy
from services.replication.window import Window
from services.replication.wire import (
    compress_batch,
    read_place,
    read_sums,
    write_change,
    write_columns,
    write_place,
    write_sums,
)
from tally.replication.v1 import peers_pb2 as pb

_BELOW_FLOOR = "the watermark is below the floor: tombstones that it lacks may have been pruned"


@dataclass(slots=True)
class Pass:
    """A pass in progress."""

    transfer: bytes
    target: str
    as_of_us: int
    place: Place = START
    sent: Sums = field(default_factory=Sums)
    left_out: tuple[uuid.UUID, ...] = ()
    single: frozenset[uuid.UUID] = frozenset()
    """the locations whose rows travel singly"""
    total_batches: int = 0
    batches: int = 0
    is_planned: bool = False


@dataclass(slots=True)
class Load:
    """A load in progress."""

    transfer: bytes
    location: uuid.UUID
    loaded_to: str | None
    after: uuid.UUID
    is_begun: bool = False
    sent: Sums = field(default_factory=Sums)
    total_batches: int = 0
    batches: int = 0


class LaneSender:
    """Makes the frames of one stream."""

    def __init__(
        self,
        pool: Any,
        settings: ReplicationSettings,
        clock: Clock,
        device: uuid.UUID,
        life: Life,
        subscription: pb.Subscribe,
        changed: Callable[[], asyncio.Event],
    ) -> None:
        """`changed`: an event that is set at the next commit in this process; it only saves waiting."""
        self._pool = pool
        self._settings = settings
        self._clock = clock
        self._device = device
        self._life = life
        self._peer = uuid.UUID(subscription.peer_device_id)
        self._codecs = tuple(subscription.codecs)
        self._watermark = subscription.watermark
        self._behind = {uuid.UUID(location) for location in subscription.behind}
        self._loading: set[uuid.UUID] = set()
        self._changed = changed
        self._loads: deque[Load] = deque()
        self._window = Window(pool, self._peer, MODEL, life.epoch, subscription.credit)
        self._pass = _open_pass(subscription)
        self._last_pass_at = float("-inf")
        self._fetched = asyncio.Event()

    def fetch(self, request: pb.Fetch) -> None:
        """The receiver requests a location."""
        location = uuid.UUID(request.location_id)
        self._loads.append(
            Load(
                secrets.token_bytes(16),
                location,
                request.from_watermark or None,
                uuid.UUID(bytes=request.after_key) if request.after_key else NIL,
                is_begun=request.is_resumed,
            )
        )
        if request.is_resumed:  # passes carry it since the load began
            self._behind.discard(location)
            self._loading.add(location)
        self._fetched.set()

    async def acknowledge(self, ack: pb.Ack) -> None:
        """A frame is committed at the receiver."""
        await self._window.acknowledge(ack)

    async def frames(self) -> AsyncGenerator[pb.SyncResponse]:
        """The frames, for as long as the stream lives; ends after SnapshotAvailable."""
        while True:
            changed = self._changed()  # before anything is read: a commit after that is not missed
            turns = [*await self._next_of_pass(), *await self._next_of_load()]
            for response in turns:
                yield await self._window.number(response)
                if response.HasField("snapshot_available"):
                    return
            if not turns:
                await self._wait(changed)
            elif self._settings.sender.pause_seconds:
                await asyncio.sleep(self._settings.sender.pause_seconds)

    async def _wait(self, changed: asyncio.Event) -> None:
        """Until something may have changed."""
        sender = self._settings.sender
        waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._fetched.wait())]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=sender.poll_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for each in waits:
                each.cancel()
        if waits[0] in done:
            await asyncio.sleep(sender.gather_seconds)
        self._fetched.clear()

    # Passes

    async def _next_of_pass(self) -> list[pb.SyncResponse]:
        try:
            if self._pass is None or not self._pass.is_planned:
                return await self._begin_pass()
            return await self._continue_pass(self._pass)
        except BelowFloor:
            return [_offer_snapshot(_BELOW_FLOOR, self._watermark)]

    async def _begin_pass(self) -> list[pb.SyncResponse]:
        """The first frames of a pass, or of one that continues after an interruption."""
        resumed = self._pass
        as_of_us = self._clock.now_us()
        plan = await plan_pass(
            self._pool, self._life, self._watermark, None if resumed is None else resumed.target
        )
        idle_s = self._clock.monotonic() - self._last_pass_at
        if resumed is None and not plan.changed and idle_s < self._settings.sender.idle_pass_seconds:
            return []
        begun = resumed or Pass(secrets.token_bytes(16), plan.target, as_of_us)
        choices = {changed: self._choose(changed) for changed in plan.changed}
        if Strategy.SNAPSHOT in choices.values():
            return [_offer_snapshot("a change was forced to travel by snapshot", plan.target)]
        # Once rows were sent, everything that the pass announces had been announced before.
        announced = [] if begun.place != START else _of(choices, Strategy.NOTIFY)
        rows = sum(each.rows for each, choice in choices.items() if each.location not in self._behind)
        begun.single = frozenset(each.location for each in _of(choices, Strategy.CHANGE))
        begun.total_batches = begun.batches - (-rows // self._settings.sender.batch_size)
        begun.is_planned = True
        self._pass = begun
        begin = pb.PassBegin(target=begun.target, rows=rows, word=await self._make_word(begun.target))
        begin.as_of.FromMicroseconds(begun.as_of_us)
        frames = [pb.SyncResponse(transfer_id=begun.transfer, pass_begin=begin)]
        frames += [frame for each in announced if (frame := await self._announce(begun, each)) is not None]
        begun.left_out = tuple(self._behind)
        return frames

    def _choose(self, changed: Changed) -> Strategy:
        peer = PeerState(
            is_behind=changed.location in self._behind, is_loading=changed.location in self._loading
        )
        forced = None if changed.forced is None else Strategy(changed.forced)
        return select_strategy(peer, changed.rows, self._settings.strategy, forced).strategy

    async def _announce(self, begun: Pass, changed: Changed) -> pb.SyncResponse | None:
        """The frame that makes a location behind; None when the location is gone meanwhile."""
        sizes = await read_sizes(self._pool, changed.location)
        if sizes is None:
            return None
        self._behind.add(changed.location)
        announcement = pb.BulkIndexComplete(
            device_id=self._device.bytes,
            location_id=changed.location.bytes,
            entry_count=sizes[0],
            changed_count=changed.rows,
        )
        announcement.indexed_at.FromMicroseconds(sizes[1])
        return pb.SyncResponse(transfer_id=begun.transfer, bulk_index_complete=announcement)

    async def _continue_pass(self, current: Pass) -> list[pb.SyncResponse]:
        page = await read_page(
            self._pool,
            self._life,
            self._watermark,
            current.target,
            current.place,
            current.left_out,
            self._settings.sender.batch_size,
        )
        if not page:
            return [await self._close_pass(current)]
        current.place = page[-1].place
        current.sent.add_all(placed.row for placed in page)
        return self._broadcast_page(current, page)

    def _broadcast_page(self, current: Pass, page: Sequence[Placed]) -> list[pb.SyncResponse]:
        """Runs of rows that travel singly, and runs that travel as a batch, in the order of the pass."""
        frames = []
        for is_single, run in groupby(page, lambda placed: placed.place.location in current.single):
            placed = list(run)
            if is_single:
                frames += [
                    pb.SyncResponse(
                        transfer_id=current.transfer, state_change=write_change(each.row, each.place)
                    )
                    for each in placed
                ]
                continue
            batch = self._pack([each.row for each in placed], placed[-1].place)
            batch.batch_index = current.batches
            current.batches += 1
            batch.total_batches = max(current.total_batches, current.batches)
            frames.append(pb.SyncResponse(transfer_id=current.transfer, state_batch=batch))
        return frames

    async def _close_pass(self, current: Pass) -> pb.SyncResponse:
        word = await self._make_word(current.target)
        closing = pb.PassComplete(watermark=current.target, closing_word=word, sent=write_sums(current.sent))
        closing.as_of.FromMicroseconds(current.as_of_us)
        self._watermark, self._pass = current.target, None
        self._last_pass_at = self._clock.monotonic()
        return pb.SyncResponse(transfer_id=current.transfer, pass_complete=closing)

    async def _make_word(self, watermark: str) -> int:
        """A word that is newer than what was read before."""
        return await words.make_word(self._pool, self._peer, MODEL, self._life, watermark)

    # Loads

    async def _next_of_load(self) -> list[pb.SyncResponse]:
        if not self._loads:
            return []
        load = self._loads[0]
        try:
            if not load.is_begun:
                return [await self._begin_load(load)]
            return await self._continue_load(load)
        except BelowFloor:
            # A full load: rows that are absent here are then deleted there.
            load.loaded_to, load.after, load.is_begun, load.sent = None, NIL, False, Sums()
            return []

    async def _begin_load(self, load: Load) -> pb.SyncResponse:
        # From here on passes carry the location. Those that began before lead to an earlier snapshot than this one.
        rows, target = await count_load(self._pool, self._life, load.location, load.loaded_to)
        self._behind.discard(load.location)
        self._loading.add(load.location)
        load.is_begun = True
        load.total_batches = -(-rows // self._settings.sender.batch_size)
        begin = pb.LoadBegin(
            location_id=load.location.bytes, target=target, rows=rows, replaces=load.loaded_to is None
        )
        return pb.SyncResponse(transfer_id=load.transfer, load_begin=begin)

    async def _continue_load(self, load: Load) -> list[pb.SyncResponse]:
        rows, upto = await read_load_page(
            self._pool,
            self._life,
            load.location,
            load.loaded_to,
            load.after,
            self._settings.sender.batch_size,
        )
        load.sent.add_all(rows)
        batch = self._pack(rows, Place(0, load.location, upto))
        batch.batch_index = load.batches
        load.batches += 1
        batch.total_batches = max(load.total_batches, load.batches)
        batch.replaces = load.loaded_to is None
        batch.after_key = load.after.bytes
        batch.word = await self._make_word(self._watermark)
        load.after = upto
        frames = [pb.SyncResponse(transfer_id=load.transfer, state_batch=batch)]
        if upto == LAST:
            self._loads.popleft()
            self._loading.discard(load.location)
            complete = pb.LoadComplete(location_id=load.location.bytes, sent=write_sums(load.sent))
            frames.append(pb.SyncResponse(transfer_id=load.transfer, load_complete=complete))
        else:
            self._loads.rotate(-1)
        return frames

    def _pack(self, rows: Sequence[Row], place: Place) -> pb.StateBatch:
        packed = compress_batch(
            write_columns(rows).SerializeToString(), self._codecs, self._settings.sender.gzip_level
        )
        return pb.StateBatch(
            model_type=MODEL,
            device_id=self._device.bytes,
            codec=packed.codec,
            unpacked_bytes=packed.unpacked_bytes,
            checksum=packed.checksum,
            columns=packed.data,
            cursor=write_place(place),
        )


def _open_pass(subscription: pb.Subscribe) -> Pass | None:
    """The pass with which the subscription continues."""
    if not subscription.open_pass.target:
        return None
    opened = subscription.open_pass
    return Pass(
        secrets.token_bytes(16),
        opened.target,
        opened.as_of.ToMicroseconds(),
        place=read_place(opened.cursor),
        sent=read_sums(opened.received),
    )


def _offer_snapshot(reason: str, not_before: str) -> pb.SyncResponse:
    """`not_before`: what the peer must not fall behind, or has to reach."""
    return pb.SyncResponse(snapshot_available=pb.SnapshotAvailable(reason=reason, not_before=not_before))


def _of(choices: dict[Changed, Strategy], strategy: Strategy) -> list[Changed]:
    return [changed for changed, choice in choices.items() if choice is strategy]
