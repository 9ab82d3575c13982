"""Peer (a): Valkey, one HINCRBY an event, a request's commands in one pipeline.

The commands are laid out and their answers counted here: for this a general client spends several times what Valkey
does, and the figure would be its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis

from loadtests.bench.contender import Store
from loadtests.bench.events import EVENT_TYPES, Request
from loadtests.bench.oracle import Counts
from loadtests.bench.valkey import open_durable_valkey, read_hashes

LACKS = (
    *("dropping repeated requests", "all or nothing for a request", "time windows"),
    *("a recount: raw events are not kept", "values", "more data than memory"),
)
_PREFIX = "v:"
_CONNECTIONS = 32
_READ_BYTES = 1 << 16


class Pipe:
    """One connection, one pipeline at a time (https://valkey.io/topics/protocol/)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def add_one_each(self, names: list[tuple[str, str]]) -> None:
        """HINCRBY video event_type 1 for each; the ids are ASCII."""
        commands = [
            f"*4\r\n$7\r\nHINCRBY\r\n${len(_PREFIX) + len(video_id)}\r\n{_PREFIX}{video_id}\r\n"
            f"${len(event_type)}\r\n{event_type}\r\n$1\r\n1\r\n"
            for video_id, event_type in names
        ]
        self._writer.write("".join(commands).encode())
        missing = len(commands)
        while missing:
            answers = await self._reader.read(_READ_BYTES)
            if not answers or b"-" in answers:  # an answer is `:count`, or `-what is wrong`
                raise RuntimeError(f"Valkey answers {answers[:200]!r}")
            missing -= answers.count(b"\n")


class ValkeyHincrby(Store):
    """Each caller takes a connection for as long as a request lasts."""

    def __init__(self, pipes: list[Pipe], client: Redis) -> None:
        self._free: asyncio.LifoQueue[Pipe] = asyncio.LifoQueue()
        for pipe in pipes:
            self._free.put_nowait(pipe)
        self._client = client

    async def send(self, request: Request) -> None:
        video_ids = request.video_ids[request.video].tolist()
        event_types = [EVENT_TYPES[number] for number in request.event_type.tolist()]
        pipe = await self._free.get()
        await pipe.add_one_each(list(zip(video_ids, event_types, strict=True)))
        self._free.put_nowait(pipe)

    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:
        return counts_are_exact(await read_hashes(self._client, _PREFIX))


@asynccontextmanager
async def open_valkey_hincrby(folder: Path) -> AsyncIterator[Store]:
    """Run Valkey and connect to it."""
    async with open_durable_valkey(folder / "valkey") as url, AsyncExitStack() as stack:
        socket = unquote(urlsplit(url).path)
        pipes = []
        for _ in range(_CONNECTIONS):
            reader, writer = await asyncio.open_unix_connection(socket)
            stack.callback(writer.close)
            pipes.append(Pipe(reader, writer))
        client = Redis.from_url(url)
        stack.push_async_callback(client.aclose)
        yield ValkeyHincrby(pipes, client)
