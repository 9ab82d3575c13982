"""The frames of a stream that may be under way: each takes credit, which the receiver gives back after its commit."""

import asyncio
import uuid
from typing import Any

from services.replication import words
from tally.replication.v1 import peers_pb2 as pb


class Window:
    """Numbers the frames of one stream, and holds them back while there is no credit."""

    def __init__(self, pool: Any, peer: uuid.UUID, model: str, epoch: int, credit: int) -> None:
        self._pool = pool
        self._peer = peer
        self._model = model
        self._epoch = epoch
        self._frame = 0
        self._credit = asyncio.Semaphore(credit)
        self._closings: dict[int, pb.PassComplete] = {}

    async def number(self, response: pb.SyncResponse) -> pb.SyncResponse:
        """The frame with its number, as soon as it may be sent."""
        await self._credit.acquire()
        self._frame += 1
        response.frame, response.epoch = self._frame, self._epoch
        if response.HasField("pass_complete"):
            self._closings[self._frame] = response.pass_complete
        return response

    async def acknowledge(self, ack: pb.Ack) -> None:
        """A frame is committed at the receiver, which takes some more."""
        if (closing := self._closings.pop(ack.frame, None)) is not None:
            await words.acknowledge(
                self._pool, self._peer, self._model, self._epoch, closing.watermark, closing.closing_word
            )
        for _ in range(ack.credit):
            self._credit.release()
