"""The delivery of one request: the outcome of each entry so far, and the shards that have failed it."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from libs.domain.entry import Entry, Outcome
from libs.rpc.tracebacks import drop_tracebacks
from services.partitioner.routing.placement import Placement
from tally.contract.errors import DeadlineExceeded, Overloaded, TallyError, Unavailable


class Sent(NamedTuple):
    """An entry that was sent to a shard, and its outcome to be."""

    entry_index: int
    """within the request"""
    address: str
    outcome: asyncio.Future[Outcome]


class Delivery:
    """Sends entries, attempt after attempt, each time those that are not durable yet.

    A round is over when every shard has failed the request; until then none of them is asked by it again.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.outcomes: list[Outcome] = [Outcome.UNAVAILABLE] * len(entries)
        """of each entry, in order; UNAVAILABLE: it is not known to be durable"""
        self.reason = "no counting shard is known"
        """why the latest attempt failed"""
        self._entries = entries
        self._tried: set[str] = set()

    @property
    def is_complete(self) -> bool:
        """Whether every entry has an outcome."""
        return Outcome.UNAVAILABLE not in self.outcomes

    def end_round(self, placement: Placement) -> bool:
        """Whether every shard of the placement has failed this request; then each may be asked again."""
        is_over = self._tried.issuperset(placement.transports)
        if is_over:
            self._tried.clear()
        return is_over

    async def attempt(self, placement: Placement, deadline: float) -> None:
        """Send each entry that needs it to the first shard in rank that has not failed this request.

        `deadline`: monotonic seconds. Raises Overloaded when a shard does.
        """
        sent = self._send(placement, deadline)
        try:
            refusals = [refusal for each in sent if (refusal := await self._receive(each)) is not None]
        finally:
            _cancel(sent)
        if refusals:
            raise refusals[-1]

    def _send(self, placement: Placement, deadline: float) -> list[Sent]:
        by_shard: dict[str, list[int]] = {}
        for index, outcome in enumerate(self.outcomes):
            if outcome == Outcome.UNAVAILABLE:
                ranked = placement.ranked[self._entries[index].partition]
                address = next(each for each in ranked if each not in self._tried)
                by_shard.setdefault(address, []).append(index)
        sent: list[Sent] = []
        for address, indexes in by_shard.items():
            try:
                futures = placement.transports[address].send(
                    [self._entries[index] for index in indexes], deadline
                )
            except Overloaded:
                _cancel(sent)
                raise
            sent.extend(Sent(index, address, future) for index, future in zip(indexes, futures, strict=True))
        return sent

    async def _receive(self, sent: Sent) -> Overloaded | None:
        """Wait for an outcome; returns Overloaded, because the outcomes that follow are still to be read.

        Whatever else a shard answers is a failure of that shard.
        """
        try:
            outcome = self.outcomes[sent.entry_index] = await sent.outcome
        except TallyError as error:
            drop_tracebacks(error)  # the future keeps it, with this frame, and so the entries of the request
            if isinstance(error, Overloaded):
                return error
            if isinstance(error, Unavailable | DeadlineExceeded):
                self._note_failure(sent.address, error.message)
            else:
                # This request was valid, and other shards may have journaled their part of it: to tell the caller that
                # it was refused would be wrong. A shard that is broken, or of another version or setting, answers so,
                # or another entry of the call was the cause.
                self._note_failure(
                    sent.address, f"shard {sent.address} failed with {error.reason}: {error.message}"
                )
        else:
            if outcome == Outcome.UNAVAILABLE:
                self._note_failure(sent.address, f"shard {sent.address} cannot journal now")
        return None

    def _note_failure(self, address: str, reason: str) -> None:
        self._tried.add(address)
        self.reason = reason


def _cancel(sent: Sequence[Sent]) -> None:
    """The caller has stopped waiting; existing outcomes stay."""
    for each in sent:
        each.outcome.cancel()
