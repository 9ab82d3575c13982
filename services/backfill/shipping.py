"""Sending shipments through the public ingest api, the same bytes each time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

import grpc

from libs.rpc.channel import open_channel
from services.backfill.settings import BackfillSettings
from tally.common.v1 import common_pb2
from tally.contract.errors import DeadlineExceeded, OutOfRange, Overloaded, TallyError, Unavailable
from tally.contract.status import error_from_rpc
from tally.ingest.v1.ingest_pb2 import ProcessEventsResponse

_METHOD = "/tally.ingest.v1.IngestService/ProcessEvents"


class Receipt(StrEnum):
    """The outcome of a request."""

    JOURNALED = "journaled"
    DUPLICATE = "duplicate"
    SPOOLED = "spooled"
    """on one disk: no receipt that may be relied on"""
    UNANSWERED = "unanswered"
    TOO_OLD = "too old"
    """not counted by this attempt; unknown for earlier attempts"""


Ship = Callable[[bytes], Awaitable[Receipt]]
"""Sends the bytes of a ProcessEventsRequest. Raises TallyError for what can never be accepted."""


class Shipping:
    """The ingest api as the ledger uses it; after a call without an answer the next one goes to the next address."""

    def __init__(self, settings: BackfillSettings) -> None:
        self._seconds = settings.send_seconds
        self._channels = [open_channel(address, settings.channel) for address in settings.partitioner]
        self._methods: list[grpc.aio.UnaryUnaryMultiCallable[bytes, ProcessEventsResponse]] = [
            channel.unary_unary(_METHOD, response_deserializer=ProcessEventsResponse.FromString)
            for channel in self._channels
        ]
        self._turn = 0

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    async def ship(self, request: bytes) -> Receipt:
        """Send a request; while Tally is overloaded it waits as long as it was asked to."""
        deadline = time.monotonic() + self._seconds
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                return _receipt_of(await self._call(request, remaining))
            except OutOfRange:
                return Receipt.TOO_OLD
            except Overloaded as error:
                await asyncio.sleep(min(error.delay_s, remaining))
            except (Unavailable, DeadlineExceeded):
                self._turn += 1
                break
        return Receipt.UNANSWERED

    async def _call(self, request: bytes, seconds: float) -> ProcessEventsResponse:
        try:
            method = self._methods[self._turn % len(self._methods)]
            response = await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        if response is None:  # this is how grpc.aio reports what does not parse
            raise TallyError("the receipt does not parse")
        return response


def _receipt_of(response: ProcessEventsResponse) -> Receipt:
    receipt = response.receipt
    if receipt.durability != common_pb2.DURABILITY_JOURNALED:
        return Receipt.SPOOLED
    return Receipt.DUPLICATE if receipt.duplicate_count else Receipt.JOURNALED
