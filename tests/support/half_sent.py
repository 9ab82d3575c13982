"""Requests that are never sent to their end, spoken in HTTP/2 by hand: gRPC's own clients send all or nothing.

Frames: https://www.rfc-editor.org/rfc/rfc9113#section-4.1
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SETTING = 4
_FRAME_BYTES = 16_384


class HalfSender:
    """One connection, with calls of one method whose requests it sends as far as the server lets it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._initial_window = self._window = 65_535
        self._write(_SETTINGS, 0, 0, b"")
        self._left: dict[int, bytes | memoryview] = {}
        self._windows: dict[int, int] = {}
        self.sent_bytes = 0
        """of all requests"""
        self.ended: set[int] = set()
        """the calls that the server has ended"""

    def begin(self, path: str, size: int, count: int) -> None:
        """Begin calls with requests of so many bytes, the last of which will never be sent."""
        message = b"\0" + struct.pack(">I", size) + bytes(size - 1)
        for number in range(count):
            stream = 2 * number + 1
            self._write(_HEADERS, _END_HEADERS, stream, _headers(path))
            self._left[stream] = message
            self._windows[stream] = self._initial_window
            self._send(stream)

    async def run(self) -> None:
        """Send what the server has room for. Until cancelled, or until it closes the connection."""
        while True:
            try:
                header = await self._reader.readexactly(9)
                size, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
                stream, payload = int.from_bytes(header[5:]), await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if kind == _SETTINGS and not flags & _ACK:
                self._write(_SETTINGS, _ACK, 0, b"")
                self._apply(payload)
            elif kind == _PING and not flags & _ACK:
                self._write(_PING, _ACK, 0, payload)
            elif kind == _WINDOW_UPDATE and not stream:
                self._window += int.from_bytes(payload)
            elif kind == _WINDOW_UPDATE and stream in self._windows:
                self._windows[stream] += int.from_bytes(payload)
            elif kind == _RST_STREAM or (kind == _HEADERS and flags & _END_STREAM):
                self.ended.add(stream)
                self._left.pop(stream, None)
            for each in list(self._left):
                self._send(each)
            await self._writer.drain()

    def _apply(self, settings: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", settings):
            if key == _INITIAL_WINDOW_SETTING:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial_window
                self._initial_window = value

    def _send(self, stream: int) -> None:
        left = memoryview(self._left[stream])
        while (room := min(len(left), self._window, self._windows[stream], _FRAME_BYTES)) > 0:
            self._write(_DATA, 0, stream, left[:room])
            left = left[room:]
            self._window -= room
            self._windows[stream] -= room
            self.sent_bytes += room
        self._left[stream] = left

    def _write(self, kind: int, flags: int, stream: int, payload: bytes | memoryview) -> None:
        self._writer.write(len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4))
        self._writer.write(payload)


def _headers(path: str) -> bytes:
    """Literal fields without indexing (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )


@asynccontextmanager
async def half_sender(address: str) -> AsyncIterator[HalfSender]:
    """A connection to host:port."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(_PREFACE)
    sender = HalfSender(reader, writer)
    running = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        running.cancel()
        writer.close()
