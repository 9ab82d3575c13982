"""The group commit: entries that wait are inserted together, one insert after the other.

The queue outlives the logs. A group whose insert is in doubt, or met a closed log, goes back to its front and is
inserted again under the next log, where the primary key tells what was journaled after all.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from libs.domain.clock import Clock
from libs.domain.errors import Overloaded
from libs.stores.postgres import InDoubt, Refused
from libs.telemetry.setup import Telemetry
from services.counting.buffer import Buffer
from services.counting.entry import Entry, NumberedEntry, Outcome
from services.counting.journal import Journal
from services.counting.log import Log
from services.counting.metrics import Metrics
from services.counting.settings import JournalSettings
from services.counting.tracing import trace_commit

_RETRY_AFTER_S = 0.2


class LogClosed(Exception):
    """Somebody else has closed the log; nothing is known about the group."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """An entry and whoever waits for its outcome."""

    entry: Entry
    outcome: asyncio.Future[Outcome]


class Queue:
    """The entries that wait for an insert: bounded, so that overload is refused and not stored."""

    def __init__(self, settings: JournalSettings) -> None:
        self._settings = settings
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self.event_count = 0
        self._has_some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, entries: Sequence[Entry]) -> list[asyncio.Future[Outcome]]:
        """Add entries, all or none. Raises Overloaded when there is no room."""
        arriving = sum(len(entry.payload) for entry in entries)
        if (
            len(self._waiting) + len(entries) > self._settings.max_waiting_entries
            or self._bytes + arriving > self._settings.max_waiting_bytes
        ):
            raise Overloaded(
                "this shard has more entries waiting than it may hold; send the same request again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        loop = asyncio.get_running_loop()
        waiting = [Waiting(entry, loop.create_future()) for entry in entries]
        self._waiting.extend(waiting)
        self._count(entries, +1)
        self._has_some.set()
        return [each.outcome for each in waiting]

    async def take_group(self) -> list[Waiting]:
        """Wait for entries and take as many as one insert may have. Whoever stopped waiting is left out."""
        group: list[Waiting] = []
        while not group:
            await self._has_some.wait()
            size = 0
            while self._waiting and len(group) < self._settings.max_group_entries:
                size += len(self._waiting[0].entry.payload)
                if group and size > self._settings.max_group_bytes:
                    break
                waiting = self._waiting.popleft()
                self._count([waiting.entry], -1)
                if not waiting.outcome.done():
                    group.append(waiting)
            if not self._waiting:
                self._has_some.clear()
        return group

    def put_back(self, group: Sequence[Waiting]) -> None:
        """Return what was taken and is still waited for, to the front and in its order."""
        unanswered = [waiting for waiting in group if not waiting.outcome.done()]
        self._waiting.extendleft(reversed(unanswered))
        self._count([waiting.entry for waiting in unanswered], +1)
        if self._waiting:
            self._has_some.set()

    def answer_all(self, outcome: Outcome) -> None:
        """Give everybody who waits the same outcome."""
        while self._waiting:
            _answer(self._waiting.popleft(), outcome)
        self._bytes = self.event_count = 0
        self._has_some.clear()

    def _count(self, entries: Iterable[Entry], sign: int) -> None:
        for entry in entries:
            self._bytes += sign * len(entry.payload)
            self.event_count += sign * len(entry.events)


class Appender:
    """Inserts groups for one log, and puts what was inserted into the buffer."""

    def __init__(
        self,
        log: Log,
        journal: Journal,
        buffer: Buffer,
        clock: Clock,
        telemetry: Telemetry,
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._journal = journal
        self.buffer = buffer
        self._clock = clock
        self._telemetry = telemetry
        self._metrics = metrics

    async def append(self, group: Sequence[Waiting]) -> None:
        """Insert a group and answer its entries. Raises InDoubt and LogClosed: then the rest is unanswered."""
        received_at_us = self._clock.now_us()
        numbered = [
            NumberedEntry(self._log.last_seq + place, received_at_us, waiting.entry)
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
            answer = await self._journal.insert(numbered)
        except Refused as refused:
            await self._insert_halves(numbered, group, refused)
            return
        if not answer.is_open:
            raise LogClosed
        self._metrics.commit_duration.record(self._clock.monotonic() - started)
        duplicates = []
        # From here to the cut nothing is awaited: a flush sees all of the group or none of it.
        for entry, waiting in zip(numbered, group, strict=True):
            if entry.seq in answer.below_floor:
                _answer(waiting, Outcome.BELOW_FLOOR)
            elif entry.seq in answer.duplicates:
                duplicates.append((entry, waiting))
            else:
                self.buffer.add(entry)
                _answer(waiting, Outcome.JOURNALED)
        self._log.cut = numbered[-1].seq
        if duplicates:
            await self._answer_duplicates(*zip(*duplicates, strict=True))

    async def _insert_halves(
        self, numbered: Sequence[NumberedEntry], group: Sequence[Waiting], refused: Refused
    ) -> None:
        """The server refused the group for certain: find the entry to blame, so that the others get in."""
        if len(group) == 1:
            _answer(group[0], Outcome.INVALID if refused.is_of_the_data else Outcome.UNAVAILABLE)
            self._log.cut = numbered[0].seq
            return
        middle = len(group) // 2
        await self._insert(numbered[:middle], group[:middle])
        await self._insert(numbered[middle:], group[middle:])

    async def _answer_duplicates(self, numbered: Sequence[NumberedEntry], group: Sequence[Waiting]) -> None:
        try:
            mismatches = await self._journal.find_mismatches(numbered)
        except Refused as refused:
            raise InDoubt(str(refused)) from refused
        for entry, waiting in zip(numbered, group, strict=True):
            _answer(waiting, Outcome.CONTENT_MISMATCH if entry.seq in mismatches else Outcome.DUPLICATE)


def _answer(waiting: Waiting, outcome: Outcome) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_result(outcome)
