"""A TCP connection to a server that a test can cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Passes everything on until its connections are cut."""

    address: str = ""
    is_shut: bool = False
    """new connections end at once"""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """Reset every connection that there is; new ones are let through."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def drop(self, _payload: bytes, _context: object) -> None:
        """What a peer behind this relay does to drop the connection of a call (`tests/support/peer.py`)."""
        self.cut()
        await asyncio.Event().wait()


@asynccontextmanager
async def open_relay(target: str) -> AsyncIterator[Relay]:
    """A relay on a free port in front of `target` (host:port)."""
    relay = Relay()
    host, _, port = target.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if relay.is_shut:
            writer.close()
            return
        target_reader, target_writer = await asyncio.open_connection(host, int(port))
        relay.writers += [writer, target_writer]
        await asyncio.gather(pump(reader, target_writer), pump(target_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        relay.cut()
        server.close()
        await server.wait_closed()
