"""What peers have in common: they add pairs under a request id, called by the client itself or from behind a door."""

from collections.abc import Callable
from typing import Protocol

from loadtests.bench.contender import Store
from loadtests.bench.events import Pairs, Request, sum_pairs
from loadtests.bench.oracle import Counts
from tally.client.request_id import RequestIds


class Counter(Protocol):
    """Counts pairs, once for each request id, durably when it answers."""

    async def add(self, request_id: str, pairs: Pairs) -> bool:
        """False when the id was there before, and nothing was added."""

    async def counts(self) -> Counts:
        """Everything."""


class CountedByClient(Store):
    """The client sums the pairs of a request and calls the store, with no service between them."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._request_ids = RequestIds()

    async def send(self, request: Request) -> None:
        if not await self._counter.add(self._request_ids.make(), sum_pairs(request)):
            raise AssertionError("a new id was taken for an old one")

    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:
        return counts_are_exact(await self._counter.counts())
