"""The transport to the shard of the same process."""

import asyncio
from collections.abc import Sequence

import pytest

from libs.domain.entry import Entry, Outcome
from libs.rpc.deadline import set_deadline
from services.partitioner.routing.local import LocalTransport
from services.partitioner.routing.placement import Placement
from services.partitioner.routing.router import Router
from services.partitioner.settings import PartitionerSettings, RetrySettings
from tally.contract.errors import DeadlineExceeded, Overloaded, Unavailable
from tests.support.clock import Clock
from tests.unit.services.partitioner.routing.shards import entry

PARTITIONS = 8
ENTRIES = [entry(partition) for partition in range(PARTITIONS)]


class Shard:
    """Sends fail first, and then are journaled at once."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.sends: list[Sequence[Entry]] = []

    def enqueue(self, entries: Sequence[Entry]) -> list[asyncio.Future[Outcome]]:
        self.sends.append(entries)
        if self._errors:
            raise self._errors.pop(0)
        futures: list[asyncio.Future[Outcome]] = []
        for _ in entries:
            future = asyncio.get_running_loop().create_future()
            future.set_result(Outcome.JOURNALED)
            futures.append(future)
        return futures


def router_to(shard: Shard) -> Router:
    placement = Placement.over({"unix:counting": LocalTransport(shard.enqueue)}, PARTITIONS)
    retry = RetrySettings(backoff_seconds=0.001, max_backoff_seconds=0.001)
    return Router(lambda: placement, PARTITIONS, PartitionerSettings(retry=retry), Clock())


async def test_the_entries_of_a_request_are_enqueued_together_and_as_they_are() -> None:
    shard = Shard()
    assert await router_to(shard).append(ENTRIES) == [Outcome.JOURNALED] * PARTITIONS
    (sent,) = shard.sends
    assert list(sent) == ENTRIES
    assert all(one is other for one, other in zip(sent, ENTRIES, strict=True))


async def test_while_the_shard_can_do_nothing_a_request_waits_and_is_sent_again() -> None:
    shard = Shard(Unavailable("no log"), Unavailable("no log"))
    assert await router_to(shard).append(ENTRIES) == [Outcome.JOURNALED] * PARTITIONS
    assert len(shard.sends) == 3


async def test_a_shard_that_does_not_answer_keeps_nobody_beyond_the_deadline() -> None:
    futures: list[asyncio.Future[Outcome]] = []

    class Silent(Shard):
        def enqueue(self, entries: Sequence[Entry]) -> list[asyncio.Future[Outcome]]:
            futures.extend(asyncio.get_running_loop().create_future() for _ in entries)
            return futures

    set_deadline(0.05)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(DeadlineExceeded, match="send the same request again"):
                await router_to(Silent()).append(ENTRIES)
    finally:
        set_deadline(None)
    assert all(future.cancelled() for future in futures)


async def test_a_shard_that_has_enough_is_not_asked_again() -> None:
    shard = Shard(Overloaded("full", retry_after_s=1))
    with pytest.raises(Overloaded, match="full"):
        await router_to(shard).append(ENTRIES)
    assert len(shard.sends) == 1
