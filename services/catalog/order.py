"""An order of all resources: by score, then number, then type. Descending is its exact reverse.

A resource without a value for the sort is below all others: last in a descending page, first in an ascending one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BY_ID = "id"
"""The sort that is always there: every resource has the same score."""
MISSING = -math.inf
_SORT_ANEW = 8
"""If more than one in this many places changes, sorting everything is cheaper than inserting."""

Place = tuple[float, int]
"""A score and a packed id: where a resource is in the order."""


@dataclass(frozen=True, slots=True)
class Order:
    """Arrays in ascending order, which never change; `ranks` is the place of each ordinal that is in it."""

    scores: NDArray[np.float64]
    packed: NDArray[np.int64]
    ordinals: NDArray[np.uint32]
    ranks: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.ordinals)

    def find(self, place: Place) -> int:
        """How many resources are below a place."""
        score, packed = place
        low = int(np.searchsorted(self.scores, score, "left"))
        high = int(np.searchsorted(self.scores, score, "right"))
        return low + int(np.searchsorted(self.packed[low:high], packed, "left"))

    def place_of(self, ordinal: int) -> Place:
        """Where a resource of the order is."""
        rank = self.ranks[ordinal]
        return float(self.scores[rank]), int(self.packed[rank])

    def walk(self, start: int, *, ascending: bool, piece: int = 512) -> Iterator[int]:
        """The ordinals from the rank `start` on, which is the first to come."""
        step = 1 if ascending else -1
        while 0 <= start < len(self):
            end = start + step * piece
            part = self.ordinals[start:end] if ascending else self.ordinals[max(end + 1, 0) : start + 1][::-1]
            yield from part.tolist()
            start = end

    def without_values(self) -> "Order":
        """The order by a sort for which no resource has a value; it is the order by id."""
        return Order(np.full(len(self), MISSING), self.packed, self.ordinals, self.ranks)

    def replace(
        self,
        gone: NDArray[np.uint32],
        scores: NDArray[np.float64],
        packed: NDArray[np.int64],
        ordinals: NDArray[np.uint32],
        size: int,
    ) -> "Order":
        """Another order without the ordinals `gone`, and with these resources in it. `size`: ordinals there are."""
        mark = np.zeros(size, bool)
        mark[gone] = True
        keep = ~mark[self.ordinals]
        old: tuple[Any, ...] = (self.scores[keep], self.packed[keep], self.ordinals[keep])
        new_rank = np.lexsort((packed, scores))
        new: tuple[Any, ...] = (scores[new_rank], packed[new_rank], ordinals[new_rank])
        if len(ordinals) * _SORT_ANEW > len(old[0]):
            both = [np.concatenate(pair) for pair in zip(old, new, strict=True)]
            rank = np.lexsort((both[1], both[0]))
            return make_order(*(each[rank] for each in both), size=size)
        positions = _positions(old[0], old[1], new[0], new[1])
        return make_order(
            *(np.insert(each, positions, other) for each, other in zip(old, new, strict=True)), size=size
        )


def make_order(
    scores: NDArray[np.float64], packed: NDArray[np.int64], ordinals: NDArray[np.uint32], *, size: int
) -> Order:
    """The order of arrays that are sorted."""
    ranks = np.zeros(size, np.uint32)
    ranks[ordinals] = np.arange(len(ordinals), dtype=np.uint32)
    return Order(scores, packed, ordinals, ranks)


def empty_order() -> Order:
    """The order of nothing."""
    return make_order(np.empty(0, np.float64), np.empty(0, np.int64), np.empty(0, np.uint32), size=0)


def _positions(
    scores: NDArray[np.float64],
    packed: NDArray[np.int64],
    new_scores: NDArray[np.float64],
    new_packed: NDArray[np.int64],
) -> NDArray[np.intp]:
    low = np.searchsorted(scores, new_scores, "left")
    high = np.searchsorted(scores, new_scores, "right")
    for index in np.flatnonzero(high > low):
        low[index] += np.searchsorted(packed[low[index] : high[index]], new_packed[index])
    return low
