"""What there is at one instant: the rows in Postgres, the memory of each shard, and what the clients know.

What nobody can tell apart is the same here. A request has one entry, so its key is the request. A connection that is
lost between a commit and its answer is one that was lost before, with the commit coming late. A process that is slow
or frozen is one whose next step does not come for long.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

OPEN, CLOSED, SETTLED = "open", "closed", "settled"
"""The states of a log."""

NO_LOG = 0


class Entry(NamedTuple):
    """A row of the journal."""

    request: str
    log: int
    seq: int


class Part(NamedTuple):
    """A part of an entry, which a transaction may apply by itself; they count from 0."""

    entry: Entry
    number: int

    @property
    def end(self) -> "Position":
        """The position after it, when others of the entry follow."""
        return Position(self.entry.seq - 1, self.number + 1)


class Position(NamedTuple):
    """Before it are the entries up to `seq`, and the first `parts` parts of the next one."""

    seq: int = 0
    parts: int = 0

    def has(self, part: Part) -> bool:
        """Whether a part is before it."""
        return part.entry.seq <= self.seq or (part.entry.seq == self.seq + 1 and part.number < self.parts)


class Log(NamedTuple):
    """A log's row, and its checkpoint."""

    state: str = OPEN
    applied: Position = Position()


class Insert(NamedTuple):
    """A group commit under way. It has found its log open, and holds the log's row `for key share`."""

    log: int
    group: tuple[Entry, ...]


class Flush(NamedTuple):
    """A transaction under way, that moves the checkpoint and adds parts of entries to the rollups."""

    log: int
    start: Position
    end: Position
    parts: tuple[Part, ...]


class Shard(NamedTuple):
    """The memory of a shard."""

    log: int
    """the log that it takes for open"""
    queue: tuple[str, ...] = ()
    """requests that wait, sorted"""
    last_seq: int = 0
    inserts: tuple[Insert, ...] = ()
    buffer: tuple[Part, ...] = ()
    cut: int = 0
    applied: Position = Position()
    flushes: tuple[Flush, ...] = ()
    """at most one"""


class State(NamedTuple):
    """Everything. Collections without an order of their own are sorted, so that equal states are equal values."""

    # Postgres
    journal: tuple[Entry, ...]
    logs: tuple[Log, ...]
    """log n is at n - 1"""
    rollups: tuple[Part, ...]
    """a multiset: what was added twice is there twice"""
    lost_inserts: tuple[Insert, ...]
    """under way, and nobody waits for the answer any more"""
    lost_flushes: tuple[Flush, ...]
    # the shards, and whoever recovers
    shards: tuple[Shard, ...]
    recoveries: tuple[Flush, ...]
    """what they have read, and are about to apply"""
    # the clients
    sends_left: tuple[int, ...]
    """by request"""
    acknowledged: tuple[str, ...]
    faults_left: int


class Bounds(NamedTuple):
    """How small the world is."""

    sends: tuple[int, ...] = (2, 1)
    """of each request, to whichever shard: a client and its retries"""
    shards: int = 2
    logs: int = 3
    recoveries: int = 2
    """that go on at once"""
    faults: int = 1
    """of any kind: a kill, a lost connection, the takeover of a shard that is alive"""
    parts: int = 1
    """of each entry"""


def first(bounds: Bounds) -> State:
    """Every shard has opened its log, and nothing was sent."""
    return State(
        journal=(),
        logs=(Log(),) * bounds.shards,
        rollups=(),
        lost_inserts=(),
        lost_flushes=(),
        shards=tuple(Shard(log=n) for n in range(1, bounds.shards + 1)),
        recoveries=(),
        sends_left=bounds.sends,
        acknowledged=(),
        faults_left=bounds.faults,
    )


Steps = Iterator[tuple[str, State]]
"""What may happen next: in words, and what there is then."""


def with_shard(state: State, place: int, **changes: Any) -> State:
    """The shard at one place is changed."""
    return state._replace(shards=put(state.shards, place, state.shards[place]._replace(**changes)))


def put(items: tuple[T, ...], place: int, item: T) -> tuple[T, ...]:
    """The item at one place is another."""
    return (*items[:place], item, *items[place + 1 :])


def without(items: tuple[T, ...], place: int) -> tuple[T, ...]:
    """The item at one place is gone."""
    return (*items[:place], *items[place + 1 :])


def parts_of(entries: Iterable[Entry], bounds: Bounds) -> tuple[Part, ...]:
    """All parts of these entries, in their order."""
    return tuple(Part(entry, number) for entry in entries for number in range(bounds.parts))


def requests_of(entries: Iterable[Entry]) -> str:
    """For a trace: X as 1, Y as 2."""
    return ", ".join(f"{entry.request} as {entry.seq}" for entry in entries)


def name_of(place: int) -> str:
    """The name of the shard at one place."""
    return f"shard {'ABC'[place]}"
