"""The state of the model: generations with their minutes, the grains, and the transactions under way.

An event is (video, number), so that no two are alike. Videos stand in the order of their hashes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

Event = tuple[int, str]
NEWEST = 2
"""The last generation that is made."""


class Bounds(NamedTuple):
    """The world."""

    videos: int = 2
    flushes: int = 2
    """of each log"""
    logs: int = 2
    """one is open at the start, the others may be opened"""
    rollers: int = 2
    replays: int = 1
    kills: int = 1


class Generation(NamedTuple):
    """A row of `generation`, with its minutes."""

    minutes: tuple[Event, ...] = ()
    is_sealed: bool = False
    rolled_to: int = 0
    """the videos below are in the grains"""


class Log(NamedTuple):
    """A log, and the generations that its transactions write."""

    checkpoint: int | None = None
    chosen: int | None = None
    """by its opening, not committed yet"""
    flushing: int | None = None
    """by a flush under way, which holds the checkpoint"""
    flushed: int = 0


class Sealing(NamedTuple):
    """The last transaction of a sealing. It holds the row of its generation if `is_locked`."""

    generation: int
    is_locked: bool
    is_clear: bool | None = None
    """the result of the check; None: not made yet"""


class Piece(NamedTuple):
    """A roll-up that has read a video's minutes. `is_half`: its mark or its data are committed, and not the other."""

    generation: int
    video: int
    taken: tuple[Event, ...]
    is_half: bool = False


class State(NamedTuple):
    """One state."""

    generations: tuple[Generation, ...]
    grains: tuple[Event, ...]
    logs: tuple[Log, ...]
    sealing: Sealing | None
    pieces: tuple[Piece | None, ...]
    replaying: int | None
    """the generation that a replay has chosen"""
    replays: int
    listed: tuple[tuple[Event, ...], tuple[int, ...], tuple[Event, ...]] | None
    """of a reader of two statements: what was counted, the marks, and the grains that it found"""
    kills: int
    wrong: str = ""


Steps = Iterator[tuple[str, State]]


def first(bounds: Bounds) -> State:
    """One generation, one open log."""
    logs = (Log(checkpoint=0), *(Log() for _ in range(bounds.logs - 1)))
    return State(
        (Generation(),), (), logs, None, (None,) * bounds.rollers, None, bounds.replays, None, bounds.kills
    )


def counted(state: State) -> tuple[Event, ...]:
    """Every event that was ever committed: once in the minutes, since nothing is deleted from them."""
    return tuple(sorted(event for each in state.generations for event in each.minutes))


def read(
    generations: Iterable[Generation], marks: Iterable[int], grains: Iterable[Event]
) -> tuple[Event, ...]:
    """What a reader finds: the grains, and of each generation the minutes of the videos from the mark on."""
    found = list(grains)
    for each, mark in zip(generations, marks, strict=False):
        found += [event for event in each.minutes if event[0] >= mark]
    return tuple(sorted(found))
