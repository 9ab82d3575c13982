"""All batches on one call: a stream that is opened when it is needed, and anew after it broke."""

import asyncio
from dataclasses import dataclass, field

import grpc

from tally.client import methods
from tally.client.answers import Receipt, Refusal
from tally.client.columns import Batch
from tally.client.connection import Connection
from tally.client.errors import ClientUnusable, OutcomeUnknown
from tally.client.status import to_error, to_refusal_error
from tally.client.unary import UnaryTransport
from tally.ingest.v1 import ingest_pb2

_BATCH_TAG = bytes([1 << 3 | 2])
"""Of the field `batch` in StreamEventsRequest: number 1, with a length before it."""
_MUST_EXPLAIN = ("INVALID_ARGUMENT", "OUT_OF_RANGE")


Call = grpc.aio.StreamStreamCall[bytes, ingest_pb2.StreamEventsResponse]


@dataclass(eq=False)
class _Line:
    """One stream, and who waits for which answer on it."""

    call: Call
    waiting: dict[str, "asyncio.Future[Receipt | Refusal]"] = field(default_factory=dict)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class StreamTransport:
    """Sends batches on a StreamEvents call; see tally.client.transport. Answers come in any order, told by the id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unary = UnaryTransport(connection)
        self._line: _Line | None = None
        self._is_closed = False
        self._readers: set[asyncio.Task[None]] = set()

    async def send(self, batch: Batch, timeout_s: float) -> Receipt:
        if self._is_closed:
            raise ClientUnusable("the client is closed", reason="CLIENT_CLOSED")
        line = self._line or self._open()
        answer = asyncio.get_running_loop().create_future()
        line.waiting[batch.request_id] = answer
        try:
            async with asyncio.timeout(timeout_s):
                async with line.writing:
                    await line.call.write(frame(batch.payload))
                outcome = await answer
        except TimeoutError:
            raise OutcomeUnknown(
                f"{self._connection.address} did not answer within {timeout_s:.3g} s",
                reason="DEADLINE_EXCEEDED",
                request_ids=(batch.request_id,),
            ) from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            outcome = await answer  # the reader is told why the stream ended, and tells all
        except asyncio.CancelledError:
            if not line.call.cancelled() or _is_cancelled():
                raise
            outcome = await answer  # the same; gRPC tells a writer of a cancelled call by this
        finally:
            if line.waiting.get(batch.request_id) is answer:
                del line.waiting[batch.request_id]
        if isinstance(outcome, Receipt):
            return outcome
        if outcome.code in _MUST_EXPLAIN:
            # A refusal has no room for what is wrong where; the same bytes under the same id, in a call of
            # their own, get the whole status.
            return await self._unary.send(batch, timeout_s)
        raise to_refusal_error(outcome)

    async def close(self, patience_s: float) -> None:
        self._is_closed = True
        if self._line is not None:
            if waiting := list(self._line.waiting.values()):
                await asyncio.wait(waiting, timeout=patience_s)
            self._line.call.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _open(self) -> _Line:
        line = _Line(self._connection.open_stream(methods.STREAM_EVENTS))
        self._line = line
        reader = asyncio.get_running_loop().create_task(self._read(line))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return line

    async def _read(self, line: _Line) -> None:
        """Hand out the answers; when the stream ends, whoever still waits has none."""
        reason = "STREAM_ENDED"
        message = f"{self._connection.address} ended the stream before it had answered"
        unreachable = None
        try:
            async for answer in line.call:
                outcome = (
                    Refusal.from_message(answer.refusal)
                    if answer.HasField("refusal")
                    else Receipt.from_message(answer.receipt)
                )
                waiter = line.waiting.pop(outcome.request_id, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(outcome)
        except grpc.aio.AioRpcError as error:
            broken = to_error(error, self._connection.address, None, ())
            reason, message, unreachable = broken.reason, broken.message, broken.unreachable
        except asyncio.CancelledError:  # how the end of a call that was cancelled is told
            message = "the stream was closed"
        finally:
            line.call.cancel()
            if self._line is line:
                self._line = None
            for request_id, waiter in line.waiting.items():
                if not waiter.done():
                    waiter.set_exception(
                        OutcomeUnknown(
                            message, reason=reason, request_ids=(request_id,), unreachable=unreachable
                        )
                    )
            line.waiting.clear()


def _is_cancelled() -> bool:
    """Whether somebody wants the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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
