"""How many retries the service gets."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tally.contract.retry_budget import RetryBudget


class WaitingBudget:
    """The retry budget of a client whose retries wait for tokens.

    A token is taken only when it is available, so a cancelled wait costs the others nothing.
    """

    def __init__(
        self, now: Callable[[], float], *, share: float = 0.2, per_second: float = 1.0, burst: float = 10.0
    ) -> None:
        """`share`: of the requests. `now`: the time of the event loop, in seconds."""
        self._budget = RetryBudget(now, share=share, per_second=per_second, burst=burst)
        self._turn = asyncio.Lock()  # serves waiting callers in their order of arrival
        self._changed = asyncio.Event()
        self._is_over = False

    def earn(self) -> None:
        """A request is sent for the first time."""
        self._budget.earn()
        self._changed.set()

    async def take(self) -> None:
        """Take a token as soon as one is available. A cancelled call takes none."""
        async with self._turn:
            while not self._is_over and not self._budget.take():
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._budget.wait_s):
                        await self._changed.wait()

    def give_back(self) -> None:
        """The retry succeeded, or was not made."""
        self._budget.give_back()
        self._changed.set()

    def give_way(self) -> None:
        """Stop limiting: the client is closed, and all requests end with errors."""
        self._is_over = True
        self._changed.set()
