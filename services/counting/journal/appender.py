"""The group commit: waiting entries are inserted together, one insert at a time."""

from collections.abc import Sequence

import structlog

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome
from libs.stores.write_connection import InDoubt, Refused
from libs.telemetry.setup import Telemetry
from services.counting.flush.backlog import Backlog
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.journal import Journal
from services.counting.journal.log import Log
from services.counting.journal.queue import QueuedEntry, complete
from services.counting.journal.tracing import CommitTracing
from services.counting.metrics import Metrics

_LOGGER = structlog.get_logger(__name__)


class LogClosed(Exception):
    """Another shard has closed the log; nothing is known about the group."""


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
        self.tracing = CommitTracing(telemetry)
        self._metrics = metrics
        self._has_told_refusal = False

    async def append(self, group: Sequence[QueuedEntry]) -> None:
        """Insert a group and answer its entries. Raises InDoubt and LogClosed: then the rest is unanswered."""
        now_us = self._clock.now_us()
        numbered = [
            NumberedEntry(self._log.last_seq + index, _receipt_of(queued.entry, now_us), queued.entry)
            for index, queued in enumerate(group, start=1)
        ]
        self._log.last_seq += len(group)
        with self.tracing.commit(queued.entry.traceparent for queued in group):
            await self._insert(numbered, group)
        self._metrics.note_outcomes(
            queued.outcome.result() for queued in group if not queued.outcome.cancelled()
        )

    async def _insert(self, numbered: Sequence[NumberedEntry], group: Sequence[QueuedEntry]) -> None:
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
        for entry, queued in zip(numbered, group, strict=True):
            if entry.seq in told.below_floor:
                complete(queued, Outcome.BELOW_FLOOR)
            elif entry.seq in told.duplicates:
                duplicates.append((entry, queued))
            else:
                self.backlog.add(entry)
                complete(queued, Outcome.JOURNALED)
        self._log.cut = numbered[-1].seq
        if duplicates:
            await self._answer_duplicates(*zip(*duplicates, strict=True))

    async def _insert_halves(
        self, numbered: Sequence[NumberedEntry], group: Sequence[QueuedEntry], refused: Refused
    ) -> None:
        """The server definitely refused the group: find the bad entry, so that the others are journaled."""
        if len(group) == 1:
            self._refuse(group[0], refused)
            self._log.cut = numbered[0].seq
            return
        middle = len(group) // 2
        await self._insert(numbered[:middle], group[:middle])
        await self._insert(numbered[middle:], group[middle:])

    def _refuse(self, queued: QueuedEntry, refused: Refused) -> None:
        outcome = Outcome.INVALID if refused.is_of_the_data else Outcome.UNAVAILABLE
        complete(queued, outcome)
        if (
            outcome is Outcome.INVALID or not self._has_told_refusal
        ):  # what is unavailable comes again and again
            self._has_told_refusal = True
            _LOGGER.warning(
                "Postgres refused an entry",
                request_id=str(queued.entry.request_id),
                partition=queued.entry.partition,
                outcome=outcome.name,
                error=str(refused),
            )

    async def _answer_duplicates(
        self, numbered: Sequence[NumberedEntry], group: Sequence[QueuedEntry]
    ) -> None:
        try:
            mismatches = await self._journal.find_mismatches(numbered)
        except Refused as refused:
            raise InDoubt(str(refused)) from refused
        for entry, queued in zip(numbered, group, strict=True):
            complete(queued, Outcome.CONTENT_MISMATCH if entry.seq in mismatches else Outcome.DUPLICATE)


def _receipt_of(entry: Entry, now_us: int) -> int:
    """A spooled entry keeps its own, which the clock may have run ahead with while Postgres was away."""
    return now_us if entry.received_at_us is None else min(entry.received_at_us, now_us)
