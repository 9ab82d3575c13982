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
    """The ingest api as the ledger uses it."""

    def __init__(self, settings: BackfillSettings) -> None:
        self._seconds = settings.send_seconds
        self._channel = open_channel(settings.partitioner[0], settings.channel)
        self._method: grpc.aio.UnaryUnaryMultiCallable[bytes, ProcessEventsResponse] = (
            self._channel.unary_unary(_METHOD, response_deserializer=ProcessEventsResponse.FromString)
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

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
                break
        return Receipt.UNANSWERED

    async def _call(self, request: bytes, seconds: float) -> ProcessEventsResponse:
        try:
            response = await self._method(request, timeout=seconds)
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
