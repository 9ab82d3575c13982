"""The source's SyncService: the owner's side of all lanes, and the region's own event.

`on_bulk_index_complete` handles the event of this region: it wakes the senders, and each decides for its peer. That the
event is not lost needs nothing: what has to be sent follows from the tables, which a sender looks at every second.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import structlog

from libs.domain.clock import Clock
from libs.stores.postgres import reaching_postgres
from services.replication import rollups, words
from services.replication.epoch import Life, confirm_life, is_from_the_future
from services.replication.hashing import COLUMNS_HASH
from services.replication.regions import check_counts, is_peer
from services.replication.rollup_sender import PassReading, RollupSender
from services.replication.rows import MODEL, LocationRow
from services.replication.sender import LaneSender
from services.replication.settings import ReplicationSettings
from tally.contract.errors import InvalidRequest, PeerMismatch, Violation
from tally.replication.v1 import peers_pb2 as pb

_LOGGER = structlog.get_logger(__name__)

_COLUMNS = {MODEL: COLUMNS_HASH, rollups.MODEL: rollups.COLUMNS_HASH}
"""The models, and the hash of the columns of each."""


class SyncService:
    """Answers peers that subscribe."""

    def __init__(
        self,
        pool: Any,
        settings: ReplicationSettings,
        clock: Clock,
        device: uuid.UUID,
        announce: Callable[[], None] = lambda: None,
        reading: PassReading | None = None,
    ) -> None:
        """`announce`: tells the other processes of this region that something was committed.

        `reading`: for passes of counts; unset: they are read through `pool`.
        """
        self._reading = reading or PassReading(pool)
        self._announce = announce
        self._pool = pool
        self._settings = settings
        self._clock = clock
        self._device = device
        self._changed = asyncio.Event()

    def on_bulk_index_complete(self, event: LocationRow) -> None:
        """A location of this region was indexed, and is committed."""
        _LOGGER.info("bulk index complete", location=str(event.uuid), count=event.entry_count)
        self.on_commit()

    def on_commit(self) -> None:
        """Something of this region was committed by this process."""
        self.wake()
        self._announce()

    def wake(self) -> None:
        """Something was committed: senders need not wait for their next look."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def serve(
        self, requests: AsyncIterator[pb.SyncRequest], write: Callable[[pb.SyncResponse], Awaitable[None]]
    ) -> None:
        """One stream of a lane. Raises InvalidRequest, PeerMismatch."""
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("subscribe"):
            raise InvalidRequest([Violation("subscribe", "must be the first message")])
        with reaching_postgres():
            sender = await self._open(first.subscribe, write)
        if sender is None:
            return
        reading = asyncio.create_task(_read(requests, sender))
        sending = asyncio.create_task(_send(sender, write))
        try:
            done, _ = await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
            with reaching_postgres():
                for each in done:
                    each.result()
        finally:
            for task in (reading, sending):
                task.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)

    async def _open(
        self, subscription: pb.Subscribe, write: Callable[[pb.SyncResponse], Awaitable[None]]
    ) -> LaneSender | RollupSender | None:
        """The sender for a subscription; None: it was offered a snapshot."""
        await self._check(subscription)
        life = await confirm_life(self._pool)
        if subscription.model_type == rollups.MODEL:
            return await self._open_rollups(subscription, life)
        if reason := await self._reason_for_snapshot(subscription, life.epoch):
            not_before = await self._comparable_watermark(subscription, life.epoch)
            offer = pb.SnapshotAvailable(reason=reason, not_before=not_before)
            await write(pb.SyncResponse(frame=1, epoch=life.epoch, snapshot_available=offer))
            return None
        return LaneSender(
            self._pool,
            self._settings,
            self._clock,
            self._device,
            life,
            subscription,
            lambda: self._changed,
        )

    async def _open_rollups(self, subscription: pb.Subscribe, life: Life) -> RollupSender:
        """Remove watermarks from which the peer cannot continue from its subscription: then everything is loaded."""
        load = subscription.open_load
        if subscription.HasField("open_load") and await self._reason_to_load(
            subscription, life.epoch, load.epoch, load.begun_at
        ):
            subscription.ClearField("open_load")
            subscription.watermark = ""
        elif reason := await self._reason_to_load(
            subscription, life.epoch, subscription.epoch, subscription.watermark
        ):
            _LOGGER.info("counts are loaded anew", peer=subscription.peer_device_id, reason=reason)
            subscription.watermark = ""
        return RollupSender(
            self._pool, self._settings, self._clock, self._device, life, subscription, self._reading
        )

    async def _check(self, subscription: pb.Subscribe) -> None:
        peer = _uuid(subscription.peer_device_id, "peer_device_id")
        if subscription.device_id != str(self._device):
            raise PeerMismatch(
                f"this is region {self._device}, and {subscription.device_id or 'none'} was asked for. Look at the "
                "address with `tally regions list`"
            )
        if peer == self._device:
            raise PeerMismatch(
                f"both regions have the id {peer}: one is a copy of the other. Give the copy a new id "
                "(docs/replication.md, copied regions) before they meet again"
            )
        if subscription.model_type not in _COLUMNS:
            raise InvalidRequest(
                [Violation("model_type", f"is {subscription.model_type!r}; there are {', '.join(_COLUMNS)}")]
            )
        if subscription.columns_hash != _COLUMNS[subscription.model_type]:
            raise PeerMismatch(
                f"the two regions have different columns of the model {subscription.model_type}: upgrade the older "
                "one, this model waits"
            )
        if not await is_peer(self._pool, peer):
            raise PeerMismatch(f"region {peer} is not known here. Make it known: tally regions add HOST:PORT")
        if subscription.model_type == rollups.MODEL:
            await check_counts(self._pool)

    async def _reason_to_load(
        self, subscription: pb.Subscribe, epoch: int, epoch_there: int, watermark: str
    ) -> str:
        """Why a peer cannot continue from a watermark of an epoch; empty: it can."""
        if not watermark:
            return "the peer has nothing of this device"
        if epoch_there != epoch:
            return f"the watermark is of epoch {epoch_there}, and this is epoch {epoch}"
        if await is_from_the_future(self._pool, watermark):
            return "the watermark is above everything that this region has committed"
        if await self._age_of_word(subscription, epoch) is None:
            return "the last word that the peer has is not known here: one of the regions was put back"
        return ""

    async def _age_of_word(self, subscription: pb.Subscribe, epoch: int) -> float | None:
        peer = uuid.UUID(subscription.peer_device_id)
        return await words.age_of_word(
            self._pool, peer, subscription.model_type, epoch, subscription.closing_word
        )

    async def _comparable_watermark(self, subscription: pb.Subscribe, epoch: int) -> str:
        """The peer's watermark, which no snapshot may be older than; empty if it is of another life of the database."""
        watermark = subscription.watermark
        if not watermark or subscription.epoch != epoch or await is_from_the_future(self._pool, watermark):
            return ""
        return watermark

    async def _reason_for_snapshot(self, subscription: pb.Subscribe, epoch: int) -> str:
        """Why a peer cannot continue from its watermark; empty: it can."""
        if reason := await self._reason_to_load(
            subscription, epoch, subscription.epoch, subscription.watermark
        ):
            return reason
        away_s = await self._age_of_word(subscription, epoch) or 0.0
        longest_s = self._settings.tombstones.full_sync_after_seconds
        if away_s > longest_s:
            return f"the peer was away for {away_s:.0f} s, more than {longest_s:.0f}"
        return ""


async def _read(requests: AsyncIterator[pb.SyncRequest], sender: LaneSender | RollupSender) -> None:
    async for request in requests:
        if request.HasField("ack"):
            await sender.acknowledge(request.ack)
        elif request.HasField("fetch"):
            sender.fetch(request.fetch)


async def _send(
    sender: LaneSender | RollupSender, write: Callable[[pb.SyncResponse], Awaitable[None]]
) -> None:
    async with aclosing(sender.frames()) as frames:
        async for response in frames:
            await write(response)


def _uuid(text: str, field: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidRequest([Violation(field, f"{text!r} is no UUID")]) from None
