"""From entries to shards: each entry to the leader of its partition, then to the next in rank."""

import asyncio
from collections.abc import Callable, Sequence

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome
from libs.rpc.deadline import call_timeout
from services.partitioner.routing.delivery import Delivery
from services.partitioner.routing.placement import Placement
from services.partitioner.settings import PartitionerSettings
from tally.contract.backoff import Backoff
from tally.contract.errors import DeadlineExceeded
from tally.contract.retry_budget import RetryBudget

_DEADLINE_CAP_S = 60.0
_SHAVE_S = 0.01
"""Kept back from the deadline so that the error can still reach the caller."""


class Router:
    """Sends the entries of a request until all are durable, or until its deadline.

    Each attempt goes by the placement of its moment. A shard that failed a request is not asked by it again until
    all others were. Attempts beyond the first are paid from a budget that all requests share; what finds it empty
    waits a little, and does not fail.
    """

    def __init__(
        self,
        read_placement: Callable[[], Placement],
        partition_count: int,
        settings: PartitionerSettings,
        clock: Clock,
    ) -> None:
        self._read_placement = read_placement
        self._settings = settings.retry
        self._clock = clock
        self._budget = RetryBudget(
            clock.monotonic,
            share=settings.retry.budget_share,
            per_second=settings.retry.budget_per_second,
            burst=settings.retry.budget_burst,
        )
        self.partition_count = partition_count

    @property
    def placement(self) -> Placement:
        """The current placement."""
        return self._read_placement()

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Send all entries; the outcome of each, in order, none of them UNAVAILABLE.

        Raises Overloaded as soon as a shard says so, and DeadlineExceeded when not all were durable in time. The same
        entries may be sent again after both.
        """
        deadline = self._clock.monotonic() + call_timeout(_DEADLINE_CAP_S, _SHAVE_S)
        delivery = Delivery(entries)
        attempts = pauses = 0
        while True:
            placement = self.placement
            if delivery.end_round(placement) or (attempts and not self._budget.take()):
                pauses += 1
                await self._pause(pauses, deadline)
            else:
                attempts += 1
                try:
                    async with asyncio.timeout(deadline - self._clock.monotonic()):
                        await delivery.attempt(placement, deadline)
                except TimeoutError:
                    raise _too_late("a shard has not answered") from None
                if delivery.is_complete:
                    self._budget.note_success(retried=attempts > 1)
                    return delivery.outcomes
            if self._clock.monotonic() >= deadline:
                raise _too_late(delivery.reason)

    async def _pause(self, number: int, deadline: float) -> None:
        """Back off, and never past the deadline."""
        pause = Backoff(self._settings.backoff_seconds, self._settings.max_backoff_seconds).pause_s(
            number - 1
        )
        await asyncio.sleep(min(pause, max(0.0, deadline - self._clock.monotonic())))


def _too_late(reason: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"not every event was durable in time ({reason}); send the same request again")
