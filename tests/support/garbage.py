"""A shard that is well by its health checks, and answers entries with garbage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from tally.counting.v1.counting_pb2 import AppendRequest, AppendResponse, GetClusterResponse
from tests.support.entries import ask_identity
from tests.support.peer import Behaviour, Context, garbage, open_peer, refuse
from tests.support.reach import open_channel

_COUNTING = "tally.counting.v1.CountingService"


async def say_nothing(_payload: bytes, _context: Context) -> bytes:
    return b""


async def say_what_nobody_knows(payload: bytes, _context: Context) -> AppendResponse:
    entries = AppendRequest.FromString(payload).entries
    return AppendResponse(outcomes=[99] * len(entries))  # type: ignore[list-item]


ANSWERS: tuple[Behaviour, ...] = (
    refuse(grpc.StatusCode.INTERNAL, "out of its mind"),
    refuse(grpc.StatusCode.CANCELLED, "by the shard, not by who called"),
    garbage,
    say_nothing,
    say_what_nobody_knows,
)


@asynccontextmanager
async def open_garbage_shard(answer: Behaviour, beside: str) -> AsyncIterator[str]:
    """Serve it at a free port; its address. It belongs to the cluster of the shard at `beside`."""
    async with open_channel(beside) as channel:
        identity = await ask_identity(channel)
    async with open_peer(_COUNTING, health=True) as peer:
        peer.answers = {"GetCluster": GetClusterResponse(cluster=identity), "Append": answer}
        yield peer.address
