"""A stream of batches: each has its own answer, in any order, and a refused one does not end the stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from libs.rpc.tracebacks import drop_tracebacks
from tally.contract.errors import InvalidRequest, OutOfRange, Overloaded, TallyError, Violation
from tally.contract.status import code_of
from tally.ingest.v1 import ingest_pb2 as pb

Process = Callable[[pb.ProcessEventsRequest], Awaitable[pb.Receipt]]
Write = Callable[[pb.StreamEventsResponse], Awaitable[None]]


async def answer_stream(
    requests: AsyncIterator[pb.StreamEventsRequest], write: Write, process: Process, at_once: int
) -> None:
    """Answer every batch. At most `at_once` are under way; while they are, no more is read from the stream.

    Raises InvalidRequest where the stream holds no batch but bytes that are none; those before are answered first.
    """
    permits = asyncio.Semaphore(at_once)
    writing = asyncio.Lock()  # gRPC breaks the call when two messages are written at once
    malformed: InvalidRequest | None = None

    async def answer(batch: pb.ProcessEventsRequest) -> None:
        try:
            answering = _answer(batch, process)
            del batch  # it takes several times its bytes, and only what is made of it has to wait
            response = await answering
            async with writing:
                await write(response)
        finally:
            permits.release()

    async with asyncio.TaskGroup() as tasks:
        try:
            async for request in requests:
                await permits.acquire()
                tasks.create_task(answer(request.batch))
                del request
        except InvalidRequest as error:
            malformed = error
    if malformed:
        raise malformed


async def _answer(batch: pb.ProcessEventsRequest, process: Process) -> pb.StreamEventsResponse:
    request_id = batch.request_id
    try:
        if not request_id:
            raise InvalidRequest([Violation("request_id", "must be given, to tell the answers apart")])
        processing = process(batch)
        del batch
        return pb.StreamEventsResponse(receipt=await processing)
    except TallyError as error:
        refusal = _refusal(request_id, error)
        drop_tracebacks(error)
        return pb.StreamEventsResponse(refusal=refusal)


def _refusal(request_id: str, error: TallyError) -> pb.Refusal:
    number: int = code_of(error).value[0]
    refusal = pb.Refusal(request_id=request_id, code=number, reason=error.reason, message=error.message)
    if isinstance(error, OutOfRange) and error.server_time_us is not None:
        refusal.server_time.FromMicroseconds(error.server_time_us)
    elif isinstance(error, Overloaded):
        refusal.retry_delay.FromMilliseconds(int(error.delay_s * 1000))
    return refusal
