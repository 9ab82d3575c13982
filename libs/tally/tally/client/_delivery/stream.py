"""All batches on one call: a stream that is opened on demand, and again after it broke or fell silent."""

import asyncio
from dataclasses import dataclass, field

import grpc

from tally.client._calls import methods
from tally.client._calls.connection import Connection
from tally.client._calls.status import to_error, to_refusal_error
from tally.client._delivery.unary import UnaryTransport
from tally.client.answers import Receipt, Refusal
from tally.client.columns import Batch
from tally.client.errors import ClientUnusable, OutcomeUnknown
from tally.ingest.v1 import ingest_pb2

_BATCH_TAG = bytes([1 << 3 | 2])
"""Tag of the field `batch` in StreamEventsRequest: number 1, length-delimited."""
_MUST_EXPLAIN = ("INVALID_ARGUMENT", "OUT_OF_RANGE")


Call = grpc.aio.StreamStreamCall[bytes, ingest_pb2.StreamEventsResponse]
Waiter = asyncio.Future[Receipt | Refusal]


@dataclass(eq=False)
class _Line:
    """One stream, and what has no answer on it yet."""

    call: Call | None
    """None when it has ended: an error that is kept keeps the line, and would keep gRPC running"""
    unwritten: "asyncio.Queue[tuple[str, bytes, Waiter]]" = field(default_factory=asyncio.Queue)
    """request id, message, and who waits for the answer"""
    unanswered: dict[str, Waiter] = field(default_factory=dict)
    """by request id; a waiter is done before its answer is there when its caller has left"""
    answers: int = 0

    @property
    def waiters(self) -> list[Waiter]:
        """Those who still wait."""
        return [waiter for waiter in self.unanswered.values() if not waiter.done()]

    def end(self) -> None:
        """Cancel the call; its reader fails the remaining waits."""
        call, self.call = self.call, None
        if call is not None:
            call.cancel()

    async def write(self, call: Call) -> None:
        """Send what is to go. In a task of its own: gRPC ends a stream when one who writes to it is cancelled."""
        try:
            while True:
                request_id, message, waiter = await self.unwritten.get()
                if waiter.done():
                    self.unanswered.pop(request_id, None)
                else:
                    await call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader gets the reason why the stream ended
        finally:
            self.end()

    def answer(self, outcome: Receipt | Refusal) -> None:
        """Resolve the wait for this, if it is not cancelled."""
        self.answers += 1
        waiter = self.unanswered.pop(outcome.request_id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(outcome)


class StreamTransport:
    """Sends batches on a StreamEvents call; see `transport.py`. Answers come in any order, identified by the id.

    So an id that has no answer yet on the stream goes in a call of its own when it is sent once more: nobody is to
    get the answer to another attempt, which may have had other events.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unary = UnaryTransport(connection)
        self._line: _Line | None = None
        """for the next batch"""
        self._lines: dict[_Line, asyncio.Task[None]] = {}
        """all that have not ended"""
        self._is_closed = False

    async def send(self, batch: Batch, timeout_s: float) -> Receipt:
        if self._is_closed:
            raise ClientUnusable("the client is closed", reason="CLIENT_CLOSED")
        message = frame(batch.payload)
        line = self._line or self._open()
        if batch.request_id in line.unanswered:
            return await self._unary.send(batch, timeout_s)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        outcome = await self._exchange(line, batch.request_id, message, timeout_s)
        if isinstance(outcome, Receipt):
            return outcome
        if outcome.code in _MUST_EXPLAIN:
            # A refusal has no room for what is wrong where; the same bytes under the same id, in a call of
            # their own, get the whole status.
            return await self._unary.send(batch, until - loop.time())
        raise to_refusal_error(outcome)

    async def close(self, patience_s: float) -> None:
        self._is_closed = True
        if waiters := [waiter for line in self._lines for waiter in line.waiters]:
            await asyncio.wait(waiters, timeout=patience_s)
        for line in self._lines:
            line.end()
        await asyncio.gather(*self._lines.values(), return_exceptions=True)

    async def _exchange(
        self, line: _Line, request_id: str, message: bytes, timeout_s: float
    ) -> Receipt | Refusal:
        """Send a message on a line, and wait for its answer."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        line.unanswered[request_id] = waiter
        line.unwritten.put_nowait((request_id, message, waiter))
        answers = line.answers
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            if line is self._line and line.answers == answers:
                self._line = None  # where nothing was answered all the time, the next batch need not try
            raise OutcomeUnknown(
                f"{self._connection.address} did not answer within {timeout_s:.3g} s",
                reason="DEADLINE_EXCEEDED",
                request_ids=(request_id,),
            ) from None
        finally:
            if line is not self._line and not line.waiters:
                line.end()

    def _open(self) -> _Line:
        call = self._connection.open_stream(methods.STREAM_EVENTS)
        self._line = line = _Line(call)
        self._lines[line] = asyncio.get_running_loop().create_task(self._conduct(line, call))
        return line

    async def _conduct(self, line: _Line, call: Call) -> None:
        """Read a line to its end and hand out the answers; then fail the remaining waits."""
        reason = "STREAM_ENDED"
        message = f"{self._connection.address} ended the stream before it had answered"
        unreachable = None
        writer = asyncio.get_running_loop().create_task(line.write(call))
        try:
            async for answer in call:
                line.answer(
                    Refusal.from_message(answer.refusal)
                    if answer.HasField("refusal")
                    else Receipt.from_message(answer.receipt)
                )
        except grpc.aio.AioRpcError as error:
            broken = to_error(error, self._connection.address, None, ())
            reason, message, unreachable = broken.reason, broken.message, broken.unreachable
        except asyncio.CancelledError:  # how the end of a call that was cancelled is told
            message = "the stream was closed"
        finally:
            line.end()
            if self._line is line:
                self._line = None
            for request_id, waiter in line.unanswered.items():
                if not waiter.done():
                    waiter.set_exception(
                        OutcomeUnknown(
                            message, reason=reason, request_ids=(request_id,), unreachable=unreachable
                        )
                    )
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            del self._lines[line]


def frame(payload: bytes) -> bytes:
    """A StreamEventsRequest around the bytes of its batch, which stay as they are.

    It is the tag of the field, the length as a varint (7 bits in each byte, the lowest first), and the bytes.
    """
    length, prefix = len(payload), bytearray(_BATCH_TAG)
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + payload
