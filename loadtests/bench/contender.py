"""The contract of a contender: the same few calls for Tally and for its peers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.bench.events import ZIPF, Mix, Request
from loadtests.bench.oracle import Counts


class Store(ABC):
    """Opened: its servers run, and a client is connected to them. Every method may raise whatever its client does."""

    @abstractmethod
    async def send(self, request: Request) -> None:
        """Make the events durable; all that a client does for that is in here, and so in the clock."""

    @abstractmethod
    async def find_fault(self, counts_are_exact: Callable[[Counts], str | None]) -> str | None:
        """What is wrong with what the store has, None when nothing is: usually that of its counts."""

    async def settle(self) -> None:  # noqa: B027 - for most there is nothing to wait for
        """Return once everything acknowledged is in the counts. Where that is so at once, do nothing."""

    @asynccontextmanager
    async def observe(self) -> AsyncIterator[None]:
        """Look on during a round."""
        yield

    def observations(self) -> dict[str, Any]:
        """What `observe` saw, for the report."""
        return {}


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of the table."""

    name: str
    request_events: int
    open: Callable[[Path], AbstractAsyncContextManager[Store]] = field(repr=False)
    """Run servers whose files are in an empty folder; all of them are children of this process."""
    lacks: tuple[str, ...] = ()
    """what Tally does and this does not"""
    mix: Mix = ZIPF
