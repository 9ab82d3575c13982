"""The group commit: entries that wait are inserted together, one insert after the other."""

from collections.abc import Sequence

import structlog

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome
from libs.stores.write_connection import InDoubt, Refused
from libs.telemetry.setup import Telemetry
from services.counting.backlog import Backlog
from services.counting.entry import NumberedEntry
from services.counting.journal import Journal
from services.counting.log import Log
from services.counting.metrics import Metrics
from services.counting.queue import Waiting, answer
from services.counting.tracing import trace_commit

_LOGGER = structlog.get_logger(__name__)


class LogClosed(Exception):
    """Somebody else has closed the log; nothing is known about the group."""


class Appender:
    """Inserts groups for one log, and puts what was inserted into the backlog."""

    def __init__(
        self,
        log: Log,
        journal: Journal,
        backlog: Backlog,
        clock: Clock,
        telemetry: Telemetry,
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._journal = journal
        self.backlog = backlog
        self._clock = clock
        self._telemetry = telemetry
        self._metrics = metrics
        self._has_told_refusal = False

    async def append(self, group: Sequence[Waiting]) -> None:
        """Insert a group and answer its entries. Raises InDoubt and LogClosed: then the rest is unanswered."""
        now_us = self._clock.now_us()
        numbered = [
            NumberedEntry(self._log.last_seq + place, _receipt_of(waiting.entry, now_us), waiting.entry)
            for place, waiting in enumerate(group, start=1)
        ]
        self._log.last_seq += len(group)
        with trace_commit(self._telemetry, [waiting.entry.traceparent for waiting in group]):
            await self._insert(numbered, group)
        self._metrics.note_outcomes(
            waiting.outcome.result() for waiting in group if not waiting.outcome.cancelled()
        )

    async def _insert(self, numbered: Sequence[NumberedEntry], group: Sequence[Waiting]) -> None:
        started = self._clock.monotonic()
        try:
            told = await self._journal.insert(numbered)
        except Refused as refused:
            if refused.is_of_the_server:  # it would refuse any other group as well
                raise InDoubt(str(refused)) from refused
            await self._insert_halves(numbered, group, refused)
            return
        if not told.is_open:
            raise LogClosed
        self._metrics.commit_duration.record(self._clock.monotonic() - started)
        duplicates = []
        # From here to the cut nothing is awaited: a flush sees all of the group or none of it.
        for entry, waiting in zip(numbered, group, strict=True):
            if entry.seq in told.below_floor:
                answer(waiting, Outcome.BELOW_FLOOR)
            elif entry.seq in told.duplicates:
                duplicates.append((entry, waiting))
            else:
                self.backlog.add(entry)
                answer(waiting, Outcome.JOURNALED)
        self._log.cut = numbered[-1].seq
        if duplicates:
            await self._answer_duplicates(*zip(*duplicates, strict=True))

    async def _insert_halves(
        self, numbered: Sequence[NumberedEntry], group: Sequence[Waiting], refused: Refused
    ) -> None:
        """The server refused the group for certain: find the entry to blame, so that the others get in."""
        if len(group) == 1:
            self._refuse(group[0], refused)
            self._log.cut = numbered[0].seq
            return
        middle = len(group) // 2
        await self._insert(numbered[:middle], group[:middle])
        await self._insert(numbered[middle:], group[middle:])

    def _refuse(self, waiting: Waiting, refused: Refused) -> None:
        outcome = Outcome.INVALID if refused.is_of_the_data else Outcome.UNAVAILABLE
        answer(waiting, outcome)
        if (
            outcome is Outcome.INVALID or not self._has_told_refusal
        ):  # what is unavailable comes again and again
            self._has_told_refusal = True
            _LOGGER.warning(
                "Postgres refused an entry",
                request_id=str(waiting.entry.request_id),
                partition=waiting.entry.partition,
                outcome=outcome.name,
                error=str(refused),
            )

    async def _answer_duplicates(self, numbered: Sequence[NumberedEntry], group: Sequence[Waiting]) -> None:
        try:
            mismatches = await self._journal.find_mismatches(numbered)
        except Refused as refused:
            raise InDoubt(str(refused)) from refused
        for entry, waiting in zip(numbered, group, strict=True):
            answer(waiting, Outcome.CONTENT_MISMATCH if entry.seq in mismatches else Outcome.DUPLICATE)


def _receipt_of(entry: Entry, now_us: int) -> int:
    """A spooled entry keeps its own, which the clock may have run ahead with while Postgres was away."""
    return now_us if entry.received_at_us is None else min(entry.received_at_us, now_us)
