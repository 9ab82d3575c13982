"""A ledger whose caller is killed anywhere, and what stands for Tally at the other end of its requests."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from libs.dataset.rows import BUCKETS
from libs.rpc.columns import decode
from libs.stores.objects import Objects
from services.backfill.candidates import Found
from services.backfill.counting import Counting, Identity, Source
from services.backfill.ledger import Ledger
from services.backfill.plan import Event
from services.backfill.report import Report
from services.backfill.shipping import Receipt
from tally.contract.request_id import parse_request_id
from tally.ingest.v1.ingest_pb2 import ProcessEventsRequest

PARTITIONS = 4
IDENTITY = Identity(UUID(int=7), PARTITIONS)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Fuse:
    """Kills at the step of this number; None never does. Steps are the statements, writes and sends of a caller."""

    left: int | None = None

    def burn(self) -> None:
        if self.left is None:
            return
        if self.left == 0:
            raise Killed
        self.left -= 1


class Fused:
    """Does what `inner` does, with a step of the fuse before each call, and another behind it."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any) -> Any:
            self._fuse.burn()
            result = await method(*args)
            self._fuse.burn()
            return result

        return call


@dataclass
class Tally:
    """Counts a request id once, whatever its answer; refuses other bytes under an id that it knows."""

    known: dict[str, bytes] = field(default_factory=dict)
    counts: Counter[tuple[str, str, str, int]] = field(default_factory=Counter)
    """by video, type, actor and time"""
    answers: list[Receipt] = field(default_factory=list)
    """to the next requests instead of the truth; UNANSWERED is counted all the same"""
    sent: int = 0

    async def ship(self, request: bytes) -> Receipt:
        self.sent += 1
        message = ProcessEventsRequest.FromString(request)
        parse_request_id(message.request_id)
        is_known = message.request_id in self.known
        if is_known:
            assert self.known[message.request_id] == request, "one id, two contents"
        answer = self.answers.pop(0) if self.answers else None
        if answer is Receipt.TOO_OLD:
            return answer
        if not is_known:
            self.known[message.request_id] = request
            self._count(message)
        return answer or (Receipt.DUPLICATE if is_known else Receipt.JOURNALED)

    def _count(self, message: ProcessEventsRequest) -> None:
        events = decode(message.columns)
        assert events.actor_index is not None
        assert events.time_us is not None
        for video, kind, actor, time_us in zip(
            events.video_index, events.event_type_index, events.actor_index, events.time_us, strict=True
        ):
            self.counts[
                events.video_ids[video], events.event_types[kind], events.actor_ids[actor], int(time_us)
            ] += 1


@dataclass
class Dataset:
    """Events by bucket, as a source."""

    events: dict[int, list[Event]] = field(default_factory=dict)

    async def of(self, bucket: int) -> Found:
        return Found(list(self.events.get(bucket, [])), 0)

    @property
    def truth(self) -> Counter[tuple[str, str, str, int]]:
        return Counter(
            (event.video, event.kind, event.did, event.time_us)
            for events in self.events.values()
            for event in events
        )


def make_events(count: int, seed: int = 0) -> list[Event]:
    chance = random.Random(seed)
    videos = [f"at://did:plc:author/app.bsky.feed.post/{n}" for n in range(9)]
    return [
        Event(f"at://did:{seed}/like/{n}", "like", chance.choice(videos), f"did:{seed}", 10**15 + n)
        for n in range(count)
    ]


def make_counting(pool: Any, objects: Objects, tally: Tally, dataset: Dataset, fuse: Fuse) -> Counting:
    """A process that counts, killed by the fuse."""

    @asynccontextmanager
    async def open_source() -> AsyncIterator[Source]:
        yield dataset

    ledger: Any = Fused(Ledger(pool), fuse)
    fused_objects: Any = Fused(objects, fuse)
    return Counting(open_source, ledger, fused_objects, Fused(tally, fuse).ship, IDENTITY, 1)


async def count(counting: Counting, dataset: Dataset, buckets: Sequence[int] = range(BUCKETS)) -> Report:
    """Count buckets one after the other; what became of all of them."""
    total = Report(-1)
    for bucket in buckets:
        report = await counting.count(bucket, dataset)
        total.counted += report.counted
        total.pending += report.pending
        total.unknown += report.unknown
        total.total += report.total
    return total
