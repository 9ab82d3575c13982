"""Shards that do what a test says."""

import asyncio
import uuid
from collections.abc import Sequence

from libs.domain.entry import Entry, Outcome
from tally.contract.errors import TallyError
from tests.support.entries import events_of


class Shard:
    """A transport that answers its sends one after the other, the last answer for ever."""

    def __init__(self, *answers: Outcome | TallyError) -> None:
        self._answers = list(answers) or [Outcome.JOURNALED]
        self.sends: list[list[Entry]] = []

    @property
    def entries(self) -> list[Entry]:
        return [entry for entries in self.sends for entry in entries]

    def send(self, entries: Sequence[Entry], deadline: float) -> list[asyncio.Future[Outcome]]:  # noqa: ARG002 - Transport's
        self.sends.append(list(entries))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        futures: list[asyncio.Future[Outcome]] = []
        for _ in entries:
            future = asyncio.get_running_loop().create_future()
            if isinstance(answer, TallyError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
            futures.append(future)
        return futures


def entry(partition: int, size: int = 1, events: int = 1) -> Entry:
    return Entry(uuid.UUID(int=0), partition, 0, bytes(size), events_of({("video", "view"): events}))
