"""A pooled HTTP session behind the guard, and answers that are read within bounds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import ClientSession, ClientTimeout, hdrs
from aiohttp.client_exceptions import ClientError
from multidict import CIMultiDictProxy

from libs.egress.guard import EgressRefused, GuardedConnector
from libs.egress.settings import EgressSettings

NO_ANSWER = (ClientError, OSError)
"""The errors of a call without a complete answer; `TimeoutError` is an OSError."""

_MOST_REDIRECTS = 3
_HEAD_BYTES = 4096


class TooLarge(Exception):
    """The answer has more bytes than are accepted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end."""

    status: int
    headers: "CIMultiDictProxy[str]"
    body: bytes


@asynccontextmanager
async def open_session(settings: EgressSettings) -> AsyncIterator[ClientSession]:
    """A session for one event loop."""
    connector = GuardedConnector(
        simulated=settings.simulated, connections_per_host=settings.connections_per_host
    )
    timeout = ClientTimeout(
        total=settings.total_seconds,
        sock_connect=settings.connect_seconds,
        sock_read=settings.silence_seconds,
    )
    async with ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,  # an answer that inflates has no bound
        headers={hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "tally-backfill"},
    ) as session:
        yield session


async def read(
    session: ClientSession,
    url: str,
    query: dict[str, str],
    *,
    most_bytes: int,
    most_seconds: float | None = None,
) -> Answer:
    """GET. The body of anything but a success is cut after 4 KiB.

    Raises what is in NO_ANSWER, EgressRefused, and TooLarge.
    """
    timeout = session.timeout if most_seconds is None else ClientTimeout(total=most_seconds)
    try:
        call = session.get(url, params=query, max_redirects=_MOST_REDIRECTS, timeout=timeout)
    except ValueError as error:  # aiohttp's InvalidURL is one
        raise EgressRefused(f"{url!r} is no URL") from error
    async with call as response:
        if response.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            raise ClientError("the answer is compressed, which was not asked for")
        if response.status != 200:
            return Answer(response.status, response.headers, await response.content.read(_HEAD_BYTES))
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > most_bytes:
                raise TooLarge(f"the answer has more than {most_bytes} bytes")
            pieces.append(piece)
        return Answer(response.status, response.headers, b"".join(pieces))
