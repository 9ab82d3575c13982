"""Fetching: getRepo of a host, at its pace."""

import asyncio
import json
import time
from dataclasses import dataclass, field

import structlog
from aiohttp import ClientSession

from libs.domain.clock import Clock
from libs.domain.pace import Limit, Pace
from libs.egress.guard import EgressRefused
from libs.egress.session import NO_ANSWER, Answer, TooLarge, read
from libs.egress.tracing import trace_get
from libs.telemetry.setup import OFF, Telemetry
from services.worker.handlers.fetch_repo.headers import wait_seconds
from services.worker.settings import FetchSettings

_LOGGER = structlog.get_logger(__name__)

_PATH = "/xrpc/com.atproto.sync.getRepo"
_BURST_SHARE = 0.01
_DELAY_SECONDS = 1.0
"""so late a call may reach the host after it was allowed"""
_GONE = frozenset({"RepoNotFound", "RepoTakendown", "RepoSuspended", "RepoDeactivated"})


class NotFetched(Exception):
    """A repository was not fetched; another attempt may help if it is transient."""

    def __init__(self, reason: str, detail: str, *, is_transient: bool) -> None:
        super().__init__(detail)
        self.reason = reason
        self.is_transient = is_transient


@dataclass(slots=True)
class _Host:
    pace: Pace
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(32))


class Fetching:
    """Fetches from any number of hosts; each has a pace of its own."""

    def __init__(
        self, session: ClientSession, clock: Clock, settings: FetchSettings, telemetry: Telemetry = OFF
    ) -> None:
        self._tracer = telemetry.tracer
        self._session = session
        self._clock = clock
        self._settings = settings
        burst = max(1, int(settings.rate_limit * _BURST_SHARE))
        delay = min(_DELAY_SECONDS, settings.rate_window_seconds / 10)
        self._limit = Limit(settings.rate_limit, settings.rate_window_seconds, burst, delay)
        self._hosts: dict[str, _Host] = {}

    async def fetch(self, host: str, did: str) -> bytes:
        """The CAR file of a repository. Waits for its turn, and as long as the host asks to; that is no attempt.

        Raises NotFetched.
        """
        own = self._hosts.setdefault(host, _Host(Pace(self._limit)))
        while True:
            await asyncio.sleep(own.pace.take(self._clock.monotonic()))
            async with own.slots:
                answer = await self._ask(host, did)
            wait = wait_seconds(
                answer.headers, answer.status, time.time(), self._settings.refused_pause_seconds
            )
            if wait:
                own.pace.pause(self._clock.monotonic() + wait)
                _LOGGER.info("host asks to wait", host=host, status=answer.status, seconds=round(wait, 1))
            if answer.status == 200:
                return answer.body
            if answer.status != 429 and not (answer.status == 503 and "retry-after" in answer.headers):
                raise _refusal(answer)

    async def _ask(self, host: str, did: str) -> Answer:
        most = self._settings.most_repo_mib * 1024 * 1024
        try:
            with trace_get(self._tracer, host + _PATH) as note_status:
                answer = await read(self._session, host + _PATH, {"did": did}, most_bytes=most)
                note_status(answer.status)
                return answer
        except EgressRefused as error:
            raise NotFetched("egress_refused", str(error), is_transient=False) from error
        except TooLarge as error:
            raise NotFetched("too_large", str(error), is_transient=False) from error
        except NO_ANSWER as error:
            detail = f"no answer: {type(error).__name__}"
            raise NotFetched("no_answer", detail, is_transient=True) from error


def _refusal(answer: Answer) -> NotFetched:
    try:
        found = json.loads(answer.body)
        error = str(found["error"])[:64] if isinstance(found, dict) and "error" in found else ""
    except (ValueError, RecursionError):
        error = ""
    detail = f"HTTP {answer.status} {error}".rstrip()
    if answer.status == 400 and error in _GONE:
        return NotFetched(error, detail, is_transient=False)
    return NotFetched("refused", detail, is_transient=True)
