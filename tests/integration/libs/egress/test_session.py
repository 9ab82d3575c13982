"""The session against real servers on this machine."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from libs.egress.guard import EgressRefused
from libs.egress.session import NO_ANSWER, TooLarge, open_session, read
from libs.egress.settings import EgressSettings

SIMULATED = EgressSettings(simulated=True, silence_seconds=0.5, total_seconds=5.0)


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """A server with an answer of 100,000 bytes, redirects to where it is told, compresses, and falls silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/redirect":
                raise web.HTTPFound(request.query["to"])
            case "/compressed":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
            case "/silent":
                response = web.StreamResponse()
                await response.prepare(request)
                await response.write(b"a")
                await response.write(b"b")
                await asyncio.Event().wait()
        return web.Response(body=b"x" * 100_000)

    app = web.Application()
    app.router.add_get("/{path}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def get(url: str, settings: EgressSettings = SIMULATED, query: dict[str, str] | None = None) -> bytes:
    async with open_session(settings) as session:
        return (await read(session, url, query or {}, most_bytes=100_000)).body


async def test_this_machine_is_called_in_a_simulation(url: str) -> None:
    assert len(await get(f"{url}/all")) == 100_000


async def test_without_a_simulation_neither_http_nor_this_machine_is_called(url: str) -> None:
    """T002-39"""
    with pytest.raises(EgressRefused, match="is not https"):
        await get(f"{url}/all", EgressSettings())
    with pytest.raises(EgressRefused, match=r"127\.0\.0\.1 is not a public address"):
        await get(url.replace("http:", "https:"), EgressSettings())
    with pytest.raises(EgressRefused, match="is not a public address"):
        await get("https://localhost:1/", EgressSettings())


@pytest.mark.parametrize(
    "target", ["http://10.0.0.1/", "http://[fe80::1]/", "https://169.254.169.254/latest"]
)
async def test_a_redirect_does_not_lead_past_the_guard(url: str, target: str) -> None:
    """T002-39"""
    with pytest.raises(EgressRefused):
        await get(f"{url}/redirect", query={"to": target})


async def test_a_text_that_is_no_url_is_refused() -> None:
    for wrong in ("", "no url", "http://", "http://[::1", "file:///etc/passwd"):
        with pytest.raises((EgressRefused, *NO_ANSWER)):
            await get(wrong)


async def test_an_answer_beyond_the_bound_is_not_read_to_its_end(url: str) -> None:
    """T002-37"""
    async with open_session(SIMULATED) as session:
        with pytest.raises(TooLarge):
            await read(session, f"{url}/all", {}, most_bytes=99_999)


async def test_an_answer_that_would_inflate_or_falls_silent_is_none(url: str) -> None:
    """T002-37"""
    for path in ("compressed", "silent"):
        with pytest.raises(NO_ANSWER):
            await get(f"{url}/{path}")


async def test_a_port_where_nothing_listens_gives_no_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NO_ANSWER):
            await get(f"http://127.0.0.1:{free.getsockname()[1]}/")
