"""The queue before the journal: bounded, so that overload is refused and not stored.

It outlives the logs. A group whose insert is in doubt, or reached a closed log, returns to its front and is
inserted again under the next log. The primary key shows which entries were journaled before.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from libs.domain.entry import Entry, Outcome
from libs.rpc.tracebacks import drop_tracebacks
from services.counting.settings import JournalSettings
from tally.contract.errors import Overloaded, TallyError

_RETRY_AFTER_S = 0.2


@dataclass(slots=True, eq=False)
class QueuedEntry:
    """An entry, and the future of its outcome."""

    entry: Entry
    outcome: asyncio.Future[Outcome]


class Queue:
    """The entries that wait for an insert: bounded, so that overload is refused and not stored."""

    def __init__(self, settings: JournalSettings) -> None:
        self._settings = settings
        self._waiting: deque[QueuedEntry] = deque()
        self._bytes = 0
        self.event_count = 0
        self._has_some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def enqueue(self, entries: Sequence[Entry]) -> list[asyncio.Future[Outcome]]:
        """Add entries, all or none. Raises Overloaded when there is no room."""
        arriving = sum(entry.size_bytes for entry in entries)
        if (
            len(self._waiting) + len(entries) > self._settings.max_waiting_entries
            or self._bytes + arriving > self._settings.max_waiting_bytes
        ):
            raise Overloaded(
                "this shard has more entries waiting than it may hold; send the same request again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        loop = asyncio.get_running_loop()
        queued = [QueuedEntry(entry, loop.create_future()) for entry in entries]
        self._waiting.extend(queued)
        self._count(entries, +1)
        self._has_some.set()
        return [each.outcome for each in queued]

    async def take_group(self, most_entries: int | None = None) -> list[QueuedEntry]:
        """Wait for entries and take as many as one insert may have, without those whose caller no longer waits."""
        most_entries = most_entries or self._settings.max_group_entries
        group: list[QueuedEntry] = []
        while not group:
            await self._has_some.wait()
            size = 0
            while self._waiting and len(group) < most_entries:
                size += self._waiting[0].entry.size_bytes
                if group and size > self._settings.max_group_bytes:
                    break
                queued = self._waiting.popleft()
                self._count([queued.entry], -1)
                if not queued.outcome.done():
                    group.append(queued)
            if not self._waiting:
                self._has_some.clear()
        return group

    def put_back(self, group: Sequence[QueuedEntry]) -> None:
        """Return what was taken and is still waited for, to the front and in its order."""
        unanswered = [queued for queued in group if not queued.outcome.done()]
        self._waiting.extendleft(reversed(unanswered))
        self._count([queued.entry for queued in unanswered], +1)
        if self._waiting:
            self._has_some.set()

    def complete_all(self, outcome: Outcome) -> None:
        """Give all waiting callers the same outcome."""
        while self._waiting:
            complete(self._waiting.popleft(), outcome)
        self._bytes = self.event_count = 0
        self._has_some.clear()

    def _count(self, entries: Iterable[Entry], sign: int) -> None:
        for entry in entries:
            self._bytes += sign * entry.size_bytes
            self.event_count += sign * len(entry.events)


def complete(queued: QueuedEntry, outcome: Outcome) -> None:
    """Give an entry its outcome, unless its caller no longer waits."""
    if not queued.outcome.done():
        queued.outcome.set_result(outcome)


def fail(queued: QueuedEntry, error: TallyError) -> None:
    """Have the call of an entry raise an error, unless its caller no longer waits."""
    if not queued.outcome.done():
        drop_tracebacks(error)  # the future would keep its frames, and so the group that it was in
        queued.outcome.set_exception(error)
        queued.outcome.exception()  # a call that has failed already looks at no other
