"""The entries of a list in the order of their scores, and which of them come behind a page. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from services.catalog.order import Place


@dataclass(frozen=True, slots=True)
class ListOrder:
    """Scores and packed ids, both ascending."""

    scores: NDArray[np.float64]
    packed: NDArray[np.int64]
    ascending: bool
    """the direction in which pages go"""

    def __len__(self) -> int:
        return len(self.packed)

    def find_behind(self, place: Place) -> int:
        """How many entries come up to a place, in the direction of the pages."""
        score, packed = place
        first, end = (int(np.searchsorted(self.scores, score, side)) for side in ("left", "right"))
        same = self.packed[first:end]
        if self.ascending:
            return first + int(np.searchsorted(same, packed, "right"))
        return len(self) - first - int(np.searchsorted(same, packed, "left"))

    def walk(self, start: int) -> Iterator[Place]:
        """The entries behind so many, in the direction of the pages."""
        scores, packed = self._rest(start)
        if not self.ascending:
            scores, packed = scores[::-1], packed[::-1]
        return zip(scores.tolist(), packed.tolist(), strict=True)

    def make_fingerprint(self, start: int) -> int:
        """Of the entries behind so many; below 2^62."""
        hashed = xxhash.xxh3_64()
        for each in self._rest(start):
            hashed.update(each.tobytes())
        return hashed.intdigest() >> 2

    def _rest(self, start: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        rest = slice(start, None) if self.ascending else slice(None, len(self) - start)
        return self.scores[rest], self.packed[rest]


def sort_list(entries: Mapping[int, int], *, ascending: bool) -> ListOrder:
    """The order of a list whose scores are given by packed id."""
    scores = np.fromiter(entries.values(), np.float64, len(entries))
    packed = np.fromiter(entries.keys(), np.int64, len(entries))
    order = np.lexsort((packed, scores))
    return ListOrder(scores[order], packed[order], ascending)
