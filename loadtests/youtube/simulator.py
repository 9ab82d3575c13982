"""The HTTP server of the simulated api: videos.list, with limits, costs and faults."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from loadtests.youtube.discovery import find_problem, read_method
from loadtests.youtube.meter import Meter
from loadtests.youtube.videos import Catalog

# https://developers.google.com/youtube/v3/determine_quota_cost: also an invalid call costs at least one unit.
LIST_UNITS = 1
# Stated for videos.batchGetStats; what videos.list takes in practice.
MAX_IDS = 50


class Fault(StrEnum):
    """What may become of a call besides a good answer."""

    SERVER_ERROR = "503"
    CUT = "cut"
    """half of an answer, and the end of the connection"""
    HANG = "hang"
    """no answer until the caller gives up"""
    NOT_JSON = "not json"
    TOO_MANY = "429"


@dataclass(slots=True)
class Simulator:
    """The server's state, and the record of what it was asked."""

    catalog: Catalog
    meter: Meter
    key: str = "simulated-key"
    clock: Callable[[], float] = time.time
    """seconds since 1970 by which it charges"""
    next_faults: list[Fault] = field(default_factory=list)
    """what becomes of the next calls, in this order"""
    delay_seconds: float = 0.0
    calls: int = 0
    in_flight: int = 0
    """calls that wait for their answer"""
    asked: Counter[str] = field(default_factory=Counter)
    """how often each id was in a call that was answered"""
    url: str = ""

    async def list_videos(self, request: web.Request) -> web.StreamResponse:
        """GET videos.list, or POST with X-HTTP-Method-Override when the URL would be too long."""
        self.calls += 1
        self.in_flight += 1
        try:
            return await self._answer_call(request)
        finally:
            self.in_flight -= 1

    async def _answer_call(self, request: web.Request) -> web.StreamResponse:
        query: MultiMapping[str] = request.query
        if request.method == "POST":
            if request.headers.get("X-HTTP-Method-Override") != "GET":
                return _refuse(404, "notFound", "Not Found")
            query = await request.post()  # type: ignore[assignment] # a form of texts
        await asyncio.sleep(self.delay_seconds)
        if refusal := self._refuse_by_limits(query):
            return refusal
        if self.next_faults:
            return await self._fail(request, self.next_faults.pop(0))
        if problem := find_problem(read_method("videos", "list"), query):
            return _refuse(400, "badRequest", problem)
        ids = [each for value in query.getall("id", []) for each in value.split(",")]
        if not 1 <= len(ids) <= MAX_IDS:
            return _refuse(400, "invalidFilters", f"The request has {len(ids)} ids")
        self.asked.update(ids)
        return web.json_response(self._answer(dict.fromkeys(ids)))

    def _refuse_by_limits(self, query: "MultiMapping[str]") -> web.Response | None:
        now = self.clock()
        if self.meter.is_too_fast(now):
            return _refuse(429, "rateLimitExceeded", "Too many calls", {"Retry-After": "1"})
        if query.get("key") != self.key:
            return _refuse(400, "badRequest", "API key not valid. Please pass a valid API key.")
        if not self.meter.charge(now, LIST_UNITS):
            return _refuse(403, "quotaExceeded", "The request cannot be completed: the quota is exceeded.")
        return None

    def _answer(self, ids: dict[str, None]) -> dict[str, Any]:
        found = [video for each in ids if (video := self.catalog.find(each)) is not None]
        return {
            "kind": "youtube#videoListResponse",
            "items": found,
            "pageInfo": {"totalResults": len(found), "resultsPerPage": len(found)},
        }

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        match fault:
            case Fault.SERVER_ERROR:
                return _refuse(503, "backendError", "Backend Error")
            case Fault.TOO_MANY:
                return _refuse(429, "rateLimitExceeded", "Too many calls", {"Retry-After": "1"})
            case Fault.NOT_JSON:
                return web.Response(text="<html>", content_type="application/json")
            case Fault.HANG:
                await asyncio.Event().wait()
        cut = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
        await cut.prepare(request)
        await cut.write(b'{"items": [')
        if request.transport is not None:
            request.transport.close()
        return cut


def _refuse(status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    return web.json_response({"error": error}, status=status, headers=headers)


@asynccontextmanager
async def open_simulator(simulator: Simulator, port: int = 0) -> AsyncIterator[Simulator]:
    """Serve on 127.0.0.1 until the context ends; `url` then says where."""
    app = web.Application()
    for method in ("GET", "POST"):
        app.router.add_route(method, "/youtube/v3/videos", simulator.list_videos)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        host, bound = runner.addresses[0][:2]
        simulator.url = f"http://{host}:{bound}/"
        yield simulator
    finally:
        await runner.cleanup()
