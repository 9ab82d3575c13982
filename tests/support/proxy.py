"""A door to Postgres that can be slammed: a unix socket in between, which sees each connection's name."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qs, quote, urlsplit

_SOCKET = ".s.PGSQL.5432"
_NAME = b"application_name\0"


class Cut(Enum):
    """When a connection is cut."""

    BEFORE_REQUEST = "before the server gets the next request"
    BEFORE_ANSWER = "after the server has answered the next request, before the client gets the answer"


@dataclass(slots=True)
class Proxy:
    """Passes everything on until it is told otherwise."""

    dsn: str
    cuts: dict[str, Cut] = field(default_factory=dict)
    """by a part of the connection's application name; each is done once"""
    on_request: Callable[[str, bytes], None] | None = None
    """is told each request before it is passed on"""
    cut_count: int = 0
    links: "set[Link]" = field(default_factory=set)
    is_shut: bool = False
    """new connections end at once"""
    is_silent: bool = False
    """on new connections nothing passes"""

    def silence(self, *, new: bool = False) -> None:
        """From now on nothing passes on the connections that there are, and none of them ends.

        New ones work, unless they are to be silent as well.
        """
        self.is_silent = new
        for link in self.links:
            link.passing.clear()

    def shut(self) -> None:
        """End every connection, and each new one, until `reopen`: there is no server any more."""
        self.is_shut = True
        for link in self.links:
            link.end()

    def reopen(self) -> None:
        """There is a server again, and what was silent goes on."""
        self.is_shut = self.is_silent = False
        for link in self.links:
            link.passing.set()

    def take_cut(self, name: str) -> Cut | None:
        for part in self.cuts:
            if part in name:
                self.cut_count += 1
                return self.cuts.pop(part)
        return None


@asynccontextmanager
async def open_proxy(dsn: str) -> AsyncIterator[Proxy]:
    """A proxy before the Postgres of a DSN, which must name a unix socket."""
    parts = urlsplit(dsn)
    target = f"{parse_qs(parts.query)['host'][0]}/{_SOCKET}"
    with tempfile.TemporaryDirectory(prefix="tally-proxy-") as folder:
        proxy = Proxy(parts._replace(query=f"host={quote(folder)}&port=5432").geturl())
        links: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = asyncio.create_task(Link(proxy, reader, writer).run(target))
            links.add(link)
            link.add_done_callback(links.discard)

        server = await asyncio.start_unix_server(accept, f"{folder}/{_SOCKET}")
        try:
            yield proxy
        finally:
            server.close()
            for link in list(links):
                link.cancel()
            await asyncio.gather(*links, return_exceptions=True)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._name = ""
        self._swallows = False
        self._ended = asyncio.Event()
        self.passing = asyncio.Event()
        if not proxy.is_silent:
            self.passing.set()

    def end(self) -> None:
        self._ended.set()

    async def run(self, target: str) -> None:
        """Pass on in both directions until one of them ends."""
        if self._proxy.is_shut:
            self._writer.close()
            return
        try:
            upstream_reader, upstream_writer = await asyncio.open_unix_connection(target)
        except OSError:  # the server is away: whoever knocks is told so at once
            self._writer.close()
            return
        self._proxy.links.add(self)
        ways = [
            asyncio.create_task(self._forth(upstream_writer)),
            asyncio.create_task(self._back(upstream_reader)),
            asyncio.create_task(self._ended.wait()),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._proxy.links.discard(self)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (self._writer, upstream_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _forth(self, upstream: asyncio.StreamWriter) -> None:
        while data := await self._reader.read(1 << 20):
            if self._name:
                if self._proxy.on_request:
                    self._proxy.on_request(self._name, data)
                cut = self._proxy.take_cut(self._name)
                if cut is Cut.BEFORE_REQUEST:
                    return
                self._swallows = cut is Cut.BEFORE_ANSWER
            elif _NAME in data:  # the startup message
                self._name = data.split(_NAME, 1)[1].split(b"\0", 1)[0].decode()
            await self.passing.wait()
            upstream.write(data)
            await upstream.drain()

    async def _back(self, upstream: asyncio.StreamReader) -> None:
        while data := await upstream.read(1 << 20):
            if self._swallows:
                return
            await self.passing.wait()
            self._writer.write(data)
            await self._writer.drain()
