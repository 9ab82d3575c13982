"""When a request is sent again: how long to wait, and how much of it the service has to bear."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tally.contract.backoff import Backoff
from tally.contract.retry_budget import RetryBudget

BACKOFF = Backoff(first_s=0.1, longest_s=5.0)


class WaitingBudget:
    """The retry budget of a client whose retries wait for their turn.

    Nobody takes a retry before it is there: so whoever gives up leaves no debt to the others.
    """

    def __init__(
        self, now: Callable[[], float], *, share: float = 0.2, per_second: float = 1.0, burst: float = 10.0
    ) -> None:
        """`share`: of the requests. `now`: the time of the event loop, in seconds."""
        self._budget = RetryBudget(now, share=share, per_second=per_second, burst=burst)
        self._turn = asyncio.Lock()  # serves those who wait in the order in which they came
        self._changed = asyncio.Event()
        self._is_over = False

    def earn(self) -> None:
        """A request goes for the first time."""
        self._budget.earn()
        self._changed.set()

    async def take(self) -> None:
        """Take a retry, as soon as there is one. Whoever is cancelled meanwhile has taken none."""
        async with self._turn:
            while not self._is_over and not self._budget.take():
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._budget.wait_s):
                        await self._changed.wait()

    def give_back(self) -> None:
        """The retry that was taken succeeded, or was not made."""
        self._budget.give_back()
        self._changed.set()

    def give_way(self) -> None:
        """Let everybody through from now on: the client is closed, and they will be told."""
        self._is_over = True
        self._changed.set()
