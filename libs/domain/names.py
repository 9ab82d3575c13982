"""Names as a column: many byte strings in one array, moved and compared without an object for each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Names:
    """n byte strings."""

    words: npt.NDArray[np.uint64]
    """(n, w) the bytes, 8 a word as they are in memory, filled up with zeros"""
    sizes: npt.NDArray[np.int64]
    """(n,) bytes of each"""

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, at: npt.NDArray[np.intp] | slice) -> "Names":
        """Those at some places."""
        return Names(self.words[at], self.sizes[at])

    def are_equal(self, left: npt.NDArray[np.intp], right: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """(m,) whether the names at each two places are the same, zeros at their ends included."""
        equal: npt.NDArray[np.bool_] = self.sizes[left] == self.sizes[right]
        for word in range(self.words.shape[1]):
            column = self.words[:, word]
            equal &= column[left] == column[right]
        return equal

    def sort_keys(self) -> list[npt.NDArray[np.uint64]]:
        """Columns for `np.lexsort`, the last one first, that put names into the order of their bytes."""
        in_order = self.words.view(">u8").astype(np.uint64)
        return [self.sizes.astype(np.uint64), *in_order.T[::-1]]

    def joined(self) -> bytes:
        """All of them, one after the other."""
        padded = self.words.view(np.uint8)
        if not len(self):
            return b""
        if self._are_of_one_size():
            return padded[:, : int(self.sizes[0])].tobytes()
        return padded[_is_filled(padded.shape[1], self.sizes)].tobytes()

    def tolist(self) -> list[bytes]:
        """An object for each."""
        return split_names(self.joined(), self.sizes.tolist())

    def _are_of_one_size(self) -> bool:
        return bool((self.sizes == self.sizes[0]).all())


def names_of(names: Sequence[bytes]) -> Names:
    """A column of single names."""
    return cut_names(b"".join(names), np.fromiter(map(len, names), np.int64, len(names)))


def encode_names(dictionaries: Sequence[Sequence[str]]) -> Names:
    """A column of the UTF-8 bytes of all strings in some dictionaries, one dictionary after the other."""
    count = sum(map(len, dictionaries))
    joined = "\0".join(["\0".join(names) for names in dictionaries if names]).encode()
    flat = np.frombuffer(joined, np.uint8)
    ends = np.append(np.flatnonzero(flat == 0), len(flat))
    if not count or len(ends) != count:  # a name has such a byte
        return names_of([name.encode() for names in dictionaries for name in names])
    sizes = np.diff(ends, prepend=-1) - 1
    return _pad(flat, sizes, 1)


def cut_names(joined: bytes, sizes: npt.NDArray[np.int64]) -> Names:
    """A column of names that come one after the other."""
    return _pad(np.frombuffer(joined, np.uint8), sizes, 0)


def _pad(flat: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64], between: int) -> Names:
    """A column of names, `between` bytes apart."""
    words = max(-(-int(sizes.max(initial=0)) // _WORD_BYTES), 1)
    padded = np.zeros((len(sizes), words * _WORD_BYTES), np.uint8)
    if len(sizes) and (sizes == sizes[0]).all():
        size, last = int(sizes[0]), len(sizes) - 1
        rows = flat[: last * (size + between)].reshape(last, size + between)
        padded[:last, :size], padded[last, :size] = rows[:, :size], flat[len(flat) - size :]
    else:
        padded[_is_filled(padded.shape[1], sizes)] = flat if not between else flat[flat != 0]
    return Names(padded.view(np.uint64), sizes)


def split_names(joined: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Names that come one after the other, as objects."""
    return [joined[a:b] for a, b in pairwise(accumulate(sizes, initial=0))]


def join_names(parts: Sequence[Names]) -> Names:
    """The names of one or more parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    sizes = np.concatenate([part.sizes for part in parts])
    words = np.zeros((len(sizes), max(part.words.shape[1] for part in parts)), np.uint64)
    at = 0
    for part in parts:
        words[at : at + len(part), : part.words.shape[1]] = part.words
        at += len(part)
    return Names(words, sizes)


def _is_filled(width: int, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    filled: npt.NDArray[np.bool_] = np.arange(width) < sizes[:, None]
    return filled
