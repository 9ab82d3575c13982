"""A lane: a few separate connections for long reads, with a bound for all callers and for each."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tally.contract.errors import Overloaded

_RETRY_AFTER_S = 2.0


class Lane:
    """Reads of one kind, at most as many at once as the pool has connections.

    Those beyond wait: at most `most_waiting`, and no longer than `wait_seconds`. One caller has at most
    `most_per_caller` reads here, waiting or under way. A refusal ends with `advice`.
    """

    def __init__(
        self,
        kind: str,
        pool: Any,
        *,
        advice: str,
        most_waiting: int,
        most_per_caller: int,
        wait_seconds: float,
    ) -> None:
        self._kind = kind
        self._advice = advice
        self._pool = pool
        self._turns = asyncio.Semaphore(pool.get_max_size())
        self._most = pool.get_max_size() + most_waiting
        self._most_per_caller = most_per_caller
        self._wait_seconds = wait_seconds
        self._callers: Counter[str] = Counter()

    @asynccontextmanager
    async def connection_for(self, caller: str) -> AsyncIterator[Any]:
        """A connection of the lane. Raises Overloaded when there are too many reads here, of all or of this caller."""
        if self._callers[caller] >= self._most_per_caller:
            raise self._refusal(f"{self._most_per_caller} of them from one address")
        if self._callers.total() >= self._most:
            raise self._refusal(f"{self._most} of them")
        self._callers[caller] += 1
        try:
            await self._wait_for_turn()
            try:
                async with self._pool.acquire() as connection:
                    yield connection
            finally:
                self._turns.release()
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            raise self._refusal(f"none of those before has ended within {self._wait_seconds:g} s") from error

    def _refusal(self, how_many: str) -> Overloaded:
        return Overloaded(
            f"too many {self._kind} at once ({how_many}); {self._advice}",
            retry_after_s=_RETRY_AFTER_S,
            nothing_done=True,
        )


def caller_of(peer: str) -> str:
    """Whom a call counts for: the address in gRPC's name of a peer, without the port, which differs by connection."""
    kind, _, rest = peer.partition(":")
    return f"{kind}:{rest.rpartition(':')[0]}" if kind in ("ipv4", "ipv6") else peer
