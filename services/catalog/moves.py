"""The orders at an earlier change: the moves since then, with the previous places.

So an order has a version for every change, the same in all replicas, and pages stay stable while scores move. Nothing
is copied: a page at an earlier version is made of the present order without what has moved, and of that at its old
places.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Scores = Mapping[str, float]
"""The values of a resource by sort, without those that it lacks."""


@dataclass(frozen=True, slots=True)
class Move:
    """A change that put a resource elsewhere in some order."""

    change: int
    ordinal: int
    before: Scores | None
    """None: it was not there"""


@dataclass(frozen=True, slots=True)
class Moves:
    """The moves up to a view, in the order of their changes."""

    entries: Sequence[Move] = ()
    """those behind `end` are of later views"""
    end: int = 0
    floor: int = 0
    """moves of changes up to here are not kept"""

    def since(self, version: int) -> Mapping[int, Scores | None] | None:
        """Where each resource that has moved since a change was at that change; None if that is not known any more."""
        if version < self.floor:
            return None
        start = bisect_right(self.entries, version, hi=self.end, key=lambda move: move.change)
        found: dict[int, Scores | None] = {}
        for index in range(start, self.end):
            move = self.entries[index]
            found.setdefault(move.ordinal, move.before)
        return found


class MoveLog:
    """Collects the moves of an index, and drops the oldest."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._entries: list[Move] = []
        self._floor = 0

    def begin(self, change: int) -> None:
        """Nothing is known of what was before this change."""
        self._entries, self._floor = [], change

    def add(self, move: Move) -> None:
        self._entries.append(move)

    def cut(self) -> Moves:
        """All moves so far, for a view. Those of earlier views stay as they are."""
        if len(self._entries) > 2 * self._kept:
            dropped = len(self._entries) - self._kept
            self._floor = self._entries[dropped - 1].change
            self._entries = self._entries[dropped:]
        return Moves(self._entries, len(self._entries), self._floor)
