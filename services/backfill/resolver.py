"""Resolving: looks up the hosts of accounts in the directory, as a separate stage with a budget (T002-28)."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import ClientSession

from libs.domain.clock import Clock
from libs.domain.pace import Limit, Pace
from libs.egress.guard import EgressRefused
from libs.egress.session import NO_ANSWER, TooLarge, read
from services.backfill.documents import Account, NoAccount, read_document, url_of
from services.backfill.repos import claim_waiting, record_resolved, record_unanswered
from services.backfill.settings import BackfillSettings

_LOGGER = structlog.get_logger(__name__)

_MOST_BYTES = 256 * 1024
_BATCH = 200
_AGAIN_SECONDS = 30.0
_GONE: Mapping[int, tuple[str, str]] = {
    404: ("did_not_found", "the directory does not know the DID"),
    410: ("did_deactivated", "the DID was deactivated in the directory"),
}


class _NoAnswer(Exception):
    """The directory did not answer; it is asked again later."""


class Resolver:
    """Resolves the accounts that wait for it, some at a time."""

    def __init__(self, pool: Any, session: ClientSession, clock: Clock, settings: BackfillSettings) -> None:
        self._pool = pool
        self._session = session
        self._clock = clock
        self._settings = settings
        second = Limit(calls=max(2, round(settings.directory.per_second * 10)), window_seconds=10.0)
        self._pace = Pace(second)
        self._slots = asyncio.Semaphore(settings.directory.at_once)

    async def turn(self) -> float | None:
        """Resolve one batch; the seconds until the next."""
        dids = await claim_waiting(self._pool, _BATCH)
        if not dids:
            return None
        found = await asyncio.gather(*map(self._resolve, dids))
        unanswered = {did: each for did, each in zip(dids, found, strict=True) if isinstance(each, _NoAnswer)}
        missing = {did: each for did, each in zip(dids, found, strict=True) if isinstance(each, NoAccount)}
        await record_resolved(self._pool, [each for each in found if isinstance(each, Account)], missing)
        if unanswered:
            problem = str(next(iter(unanswered.values())))
            _LOGGER.warning("accounts not resolved; will retry", count=len(unanswered), error=problem)
            await record_unanswered(self._pool, list(unanswered), _AGAIN_SECONDS, problem)
        return 0.0

    async def _resolve(self, did: str) -> Account | NoAccount | _NoAnswer:
        async with self._slots:
            await asyncio.sleep(self._pace.take(self._clock.monotonic()))
            try:
                return read_document(did, await self._ask(did))
            except (NoAccount, _NoAnswer) as error:
                return error

    async def _ask(self, did: str) -> Any:
        """The document. Raises NoAccount and _NoAnswer."""
        directory = self._settings.directory
        url = url_of(did, directory.url, simulated=self._settings.egress.simulated)
        try:
            answer = await read(
                self._session, url, {}, most_bytes=_MOST_BYTES, most_seconds=directory.timeout_seconds
            )
        except EgressRefused as error:
            raise NoAccount("egress_refused", str(error)) from error
        except TooLarge as error:
            raise NoAccount("document_malformed", str(error)) from error
        except NO_ANSWER as error:
            raise _NoAnswer(f"no answer: {type(error).__name__}") from error
        if answer.status in _GONE:
            raise NoAccount(*_GONE[answer.status])
        if answer.status != 200:
            raise _NoAnswer(f"HTTP {answer.status}")
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise NoAccount("document_malformed", "the document is not JSON") from error
