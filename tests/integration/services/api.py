"""The public api without the client library: generated stubs, raw bytes, and refusals as they travel."""

import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no py.typed

from tally.common.v1.common_pb2 import CONSISTENCY_STRONG
from tally.contract.request_id import make_request_id
from tally.ingest.v1 import ingest_pb2_grpc
from tally.query.v1 import query_pb2, query_pb2_grpc
from tests.support.eventually import eventually
from tests.support.stack import Stack

# the generated stubs have no types without a plugin
_IngestStub: Any = ingest_pb2_grpc.IngestServiceStub
_QueryStub: Any = query_pb2_grpc.QueryServiceStub

TIMEOUT_S = 20


def new_id(ahead_ms: int = 0) -> str:
    """A request id of now, or of so many milliseconds later."""
    return str(make_request_id(time.time_ns() // 1_000_000 + ahead_ms))


@dataclass(frozen=True, slots=True)
class Refused:
    """What a caller is told, read from the trailers by nothing of ours."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    fields: list[str]
    descriptions: list[str]
    trailer_bytes: int


@dataclass(frozen=True, slots=True)
class Api:
    """One stack's services, and its database."""

    stack: Stack
    channel: grpc.aio.Channel
    ingest: Any
    query: Any
    database: Any

    async def count(self, video_id: str, event_type: str = "view", **request: Any) -> int:
        """A strong read."""
        response = await self.query.GetCount(
            query_pb2.GetCountRequest(
                video_id=video_id, event_type=event_type, consistency=CONSISTENCY_STRONG, **request
            ),
            timeout=TIMEOUT_S,
        )
        count: int = response.count
        return count

    async def journaled(self) -> tuple[int, int]:
        """The entries in the journal, and their events."""
        row = await self.database.fetchrow("select count(*), coalesce(sum(events), 0) from counting.journal")
        return row[0], row[1]

    async def flushed(self) -> None:
        """Wait until the rollups contain all that is in the journal."""

        async def is_flushed() -> bool:
            logs = (await self.query.ListLogs(query_pb2.ListLogsRequest(), timeout=TIMEOUT_S)).logs
            return all(log.applied_seq == log.last_seq for log in logs)

        await eventually(is_flushed)

    async def raw(self, method: str, data: bytes) -> bytes:
        """Call a method of IngestService with these very bytes."""
        call: Any = self.channel.unary_unary(f"/tally.ingest.v1.IngestService/{method}")
        answer: bytes = await call(data, timeout=TIMEOUT_S)
        return answer


@asynccontextmanager
async def open_api(stack: Stack) -> AsyncIterator[Api]:
    """Stubs on a channel without limits of its own, and a connection to the database."""
    database = await asyncpg.connect(stack.dsn)
    try:
        async with grpc.aio.insecure_channel(stack.address) as channel:
            yield Api(stack, channel, _IngestStub(channel), _QueryStub(channel), database)
    finally:
        await database.close()


async def refused(call: Awaitable[object]) -> Refused:
    """The refusal of a call that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_refusal(caught.value)


def read_refusal(error: grpc.aio.AioRpcError) -> Refused:
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    raw = (error.trailing_metadata() or {}).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(raw).details:
        for known in (info, bad_request):
            detail.Unpack(known)
    violations: Sequence[Any] = bad_request.field_violations
    return Refused(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        fields=[violation.field for violation in violations],
        descriptions=[violation.description for violation in violations],
        trailer_bytes=sum(len(key) + len(value) for key, value in error.trailing_metadata() or ()),
    )
