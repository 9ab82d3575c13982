"""The transport to a shard in the same process: a direct call."""

import asyncio
from collections.abc import Sequence

from libs.domain.entry import Entry, Outcome
from libs.runtime.entries import Enqueue
from tally.contract.errors import Unavailable


class LocalTransport:
    """Hands entries to a shard as they are. They were checked at the door by the rules that the shard has."""

    def __init__(self, enqueue: Enqueue) -> None:
        self._enqueue = enqueue

    def send(self, entries: Sequence[Entry], deadline: float) -> list[asyncio.Future[Outcome]]:  # noqa: ARG002 - Transport's
        """See Transport. A caller that stops waiting cancels; the shard has its own timeouts."""
        try:
            return self._enqueue(entries)
        except Unavailable:
            return [_unavailable() for _ in entries]


def _unavailable() -> asyncio.Future[Outcome]:
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    outcome.set_result(Outcome.UNAVAILABLE)
    return outcome
