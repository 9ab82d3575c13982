"""A way to the service that does what a test says, and keeps what it was given."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tally.client import (
    Batch,
    InvalidRequest,
    OutcomeUnknown,
    OutOfRange,
    Overloaded,
    Receipt,
    TallyError,
    Violation,
)
from tally.client.answers import Durability

Turn = Callable[[Batch], Awaitable[Receipt]]


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt: the batch, its bytes, and when (seconds of the loop)."""

    batch: Batch
    payload: bytes
    at: float

    @property
    def request_id(self) -> str:
        return self.batch.request_id

    @property
    def videos(self) -> list[str]:
        """The video of each event, in order."""
        columns = self.batch.columns
        index = columns.video_index
        return [
            columns.video_ids[int.from_bytes(index[at : at + 2], "little")] for at in range(0, len(index), 2)
        ]


@dataclass
class Transport:
    """`turns`: what becomes of the next attempts, one each; all others are answered after `answer_s` seconds."""

    turns: deque[Turn] = field(default_factory=deque)
    sent: list[Sent] = field(default_factory=list)
    answer_s: float = 0.0
    under_way: int = 0
    most_under_way: int = 0

    async def send(self, batch: Batch, timeout_s: float) -> Receipt:
        self.sent.append(Sent(batch, batch.payload, asyncio.get_running_loop().time()))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            async with asyncio.timeout(timeout_s):
                if self.turns:
                    return await self.turns.popleft()(batch)
                await asyncio.sleep(self.answer_s)
                return receipt_of(batch)
        except TimeoutError:
            raise unanswered("DEADLINE_EXCEEDED") from None
        finally:
            self.under_way -= 1

    async def close(self, patience_s: float) -> None:
        """There is nothing to close."""

    @property
    def videos(self) -> list[str]:
        """Of all attempts, in order."""
        return [video for sent in self.sent for video in sent.videos]


def receipt_of(batch: Batch) -> Receipt:
    return Receipt(batch.request_id, len(batch.columns), 0, Durability.JOURNALED)


def unanswered(reason: str = "UNAVAILABLE") -> OutcomeUnknown:
    return OutcomeUnknown("no answer", reason=reason)


def overloaded(retry_after_s: float | None = None) -> Overloaded:
    return Overloaded.received("busy", retry_after_s=retry_after_s)


def shed(retry_after_s: float | None = None) -> Overloaded:
    """Refused at the door, before any work was done for it."""
    return Overloaded.received("busy", retry_after_s=retry_after_s, metadata={"nothing_done": "true"})


def invalid(*fields: str) -> InvalidRequest:
    return InvalidRequest([Violation(name, "is bad") for name in fields])


def out_of_range(server_time_us: int, fields: Sequence[str] = ("request_id",)) -> OutOfRange:
    return OutOfRange([Violation(name, "is out of range") for name in fields], server_time_us=server_time_us)


def fail(error: TallyError) -> Turn:
    async def turn(_batch: Batch) -> Receipt:
        raise error

    return turn


async def never(_batch: Batch) -> Receipt:
    """A turn without an end."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
