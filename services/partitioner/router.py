"""From entries to shards: each entry to the leader of its partition, then to whoever ranks next."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome
from libs.rpc.deadline import call_timeout
from services.partitioner.placement import Placement
from services.partitioner.settings import PartitionerSettings
from tally.contract.errors import (
    DeadlineExceeded,
    Overloaded,
    TallyError,
    Unavailable,
)
from tally.contract.retry_budget import RetryBudget

Sent = tuple[int, str, "asyncio.Future[Outcome]"]
"""the place of an entry, the shard that it was sent to, and its outcome"""

_DEADLINE_CAP_S = 60.0
_SHAVE_S = 0.01
"""Left for the answer, so that the caller hears why, and not only that its time is over."""


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
        """That of this moment."""
        return self._read_placement()

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Send all entries; the outcome of each, in order, none of them UNAVAILABLE.

        Raises Overloaded as soon as a shard says so, and DeadlineExceeded when not all were durable in time. The same
        entries may be sent again after both.
        """
        deadline = self._clock.monotonic() + call_timeout(_DEADLINE_CAP_S, _SHAVE_S)
        outcomes: list[Outcome] = [Outcome.UNAVAILABLE] * len(entries)
        missing: Sequence[int] = range(len(entries))
        tried: set[str] = set()
        attempts = pauses = 0
        reason = "no counting shard is known"
        while True:
            placement = self.placement
            is_round_over = tried.issuperset(placement.ways)
            if is_round_over or (attempts and not self._budget.take()):
                if is_round_over:
                    tried.clear()
                pauses += 1
                await self._pause(pauses, deadline)
            else:
                attempts += 1
                sent = self._send(placement, entries, missing, tried, deadline)
                try:
                    async with asyncio.timeout(deadline - self._clock.monotonic()):
                        reason = await _gather(sent, outcomes, tried) or reason
                except TimeoutError:
                    raise _too_late("a shard has not answered") from None
                missing = [place for place in missing if outcomes[place] == Outcome.UNAVAILABLE]
                if not missing:
                    self._budget.note_success(retried=attempts > 1)
                    return outcomes
            if self._clock.monotonic() >= deadline:
                raise _too_late(reason)

    def _send(
        self,
        placement: Placement,
        entries: Sequence[Entry],
        places: Iterable[int],
        tried: set[str],
        deadline: float,
    ) -> list[Sent]:
        by_shard: dict[str, list[int]] = {}
        for place in places:
            ranked = placement.ranked[entries[place].partition]
            by_shard.setdefault(next(each for each in ranked if each not in tried), []).append(place)
        sent: list[Sent] = []
        for address, placed in by_shard.items():
            try:
                futures = placement.ways[address].send([entries[place] for place in placed], deadline)
            except Overloaded:
                _cancel(sent)
                raise
            sent.extend((place, address, future) for place, future in zip(placed, futures, strict=True))
        return sent

    async def _pause(self, number: int, deadline: float) -> None:
        """Full jitter: a random part of a pause that doubles each time, and never past the deadline."""
        longest = min(
            self._settings.max_backoff_seconds, self._settings.backoff_seconds * 2.0 ** min(number - 1, 30)
        )
        pause = random.uniform(0, longest)  # noqa: S311 - jitter is no secret
        await asyncio.sleep(min(pause, max(0.0, deadline - self._clock.monotonic())))


def _too_late(reason: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"not every event was durable in time ({reason}); send the same request again")


async def _gather(sent: Sequence[Sent], outcomes: list[Outcome], tried: set[str]) -> str:
    """Wait for every answer and put it into its place; note the shards that could not take an entry, and say why.

    Raises Overloaded. Whatever else a shard answers speaks of that shard.
    """
    reason = ""
    refusal: Overloaded | None = None
    try:
        for place, address, future in sent:
            try:
                outcomes[place] = await future
            except (Unavailable, DeadlineExceeded) as error:
                tried.add(address)
                reason = error.message
            except Overloaded as error:
                refusal = error
            except TallyError as error:
                # The door has let this request in, and other shards may have journaled their part of it: to tell the
                # caller that it was refused would be wrong. A shard that is broken, or of another version or setting,
                # answers so, or another entry of the call was to blame.
                tried.add(address)
                reason = f"shard {address} failed with {error.reason}: {error.message}"
            else:
                if outcomes[place] == Outcome.UNAVAILABLE:
                    tried.add(address)
                    reason = f"shard {address} cannot journal now"
    finally:
        _cancel(sent)
    if refusal is not None:
        raise refusal
    return reason


def _cancel(sent: Iterable[Sent]) -> None:
    """Nobody waits any more; what was answered stays so."""
    for _, _, future in sent:
        future.cancel()
