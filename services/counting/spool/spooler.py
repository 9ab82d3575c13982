"""The spooler: writes waiting entries to the spool while there is no log."""

from collections.abc import Sequence

from libs.domain.clock import Clock
from libs.domain.entry import Outcome
from services.counting.journal.queue import Queue, QueuedEntry, complete, fail
from services.counting.metrics import Metrics
from services.counting.spool.spool import Spool
from tally.contract.errors import Overloaded


class Spooler:
    """Answers one queue from one spool."""

    def __init__(self, spool: Spool, queue: Queue, clock: Clock, metrics: Metrics) -> None:
        self._spool = spool
        self._queue = queue
        self._clock = clock
        self._metrics = metrics

    async def run(self) -> None:
        """Spool group after group, and answer each when it is on the disk. Until cancelled."""
        while True:
            group = await self._queue.take_group()
            try:
                await self._spool_group(group)
            except BaseException:
                # Perhaps it is in the spool as well: then the drain will meet it in the journal.
                self._queue.put_back(group)
                raise

    async def _spool_group(self, group: Sequence[QueuedEntry]) -> None:
        fresh = []
        for queued in group:
            if queued.entry.received_at_us is None:
                fresh.append(queued)
            else:
                complete(queued, Outcome.SPOOLED)  # it was on its way out, and is still there
        if not fresh:
            return
        try:
            outcomes = await self._spool.write([queued.entry for queued in fresh], self._clock.now_us())
        except Overloaded as error:
            for queued in fresh:
                fail(queued, error)
            return
        for queued, outcome in zip(fresh, outcomes, strict=True):
            complete(queued, outcome)
        self._metrics.spooled.add(outcomes.count(Outcome.SPOOLED))
        self._metrics.note_outcomes(outcomes)
