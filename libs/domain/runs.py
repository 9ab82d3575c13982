"""Runs: cells with the names of what they count, in the order in which the rollups keep them (ADR 27).

The order is (hash of the video, the video's bytes, event type, minute). The hash finds a video; where hashes are equal,
the names decide. Pure: no I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from libs.domain.cells import NO_CELLS, Cells, ValueCells, join_cells, merge_values
from libs.domain.grains import Grain
from libs.domain.names import Names, join_names, names_of

TYPE_BITS = np.uint64(32)
"""A series is one number: 32 bits for the video, 32 for the event type."""
TYPE_MASK = np.uint64(0xFFFFFFFF)
PIECE_NAMES = 8_192
"""So many names are handled in one hold of the interpreter's lock."""
_KEY_BITS = 63
_MOST_EVENTS = 2.0**62
"""Cells with fewer events in all are merged; the float that they are compared with is off by far less than the rest."""

Numbers = npt.NDArray[np.int64]
Series = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Part:
    """Cells in any order. `cells.series` has the places of video and event type in 32 bits each.

    A video or an event type may have several places, and an event type may have no cells.
    """

    names: Names
    """of videos; each has cells"""
    hashes: Numbers
    """(v,) that of each video"""
    types: Sequence[bytes]
    cells: Cells

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def videos(self) -> list[bytes]:
        """The names as objects."""
        return self.names.tolist()


@dataclass(frozen=True, slots=True)
class Run(Part):
    """Cells in the order of blocks; each video and event type has one place, and event types are in order too."""

    def split(self, bound: int) -> tuple["Run | None", "Run | None"]:
        """The videos with a hash below a bound, and the others; None: there are none."""
        at = int(np.searchsorted(self.hashes, bound))
        if at == 0:
            return None, self
        if at == len(self.hashes):
            return self, None
        edge = int(np.searchsorted(self.cells.series, np.uint64(at) << TYPE_BITS))
        below, rest = self.cells.take(slice(0, edge)), self.cells.take(slice(edge, None))
        series = rest.series - (np.uint64(at) << TYPE_BITS)
        return (
            Run(self.names.take(slice(0, at)), self.hashes[:at], self.types, below),
            Run(
                self.names.take(slice(at, None)),
                self.hashes[at:],
                self.types,
                Cells(series, rest.minute, rest.count, rest.values),
            ),
        )


NOTHING = Run(names_of([]), np.empty(0, np.int64), (), NO_CELLS)


def hash_of(video: bytes) -> int:
    """XXH3 (64 bits, seed 0) of the id's UTF-8 bytes, signed as Postgres's bigint holds it."""
    digest = xxhash.xxh3_64_intdigest(video)
    return digest - (1 << 64) if digest >= 1 << 63 else digest


def hashes_of(videos: Sequence[bytes]) -> Numbers:
    """(n,) the hash of each video."""
    digests = [
        b"".join(map(xxhash.xxh3_64_digest, videos[begin : begin + PIECE_NAMES]))
        for begin in range(0, len(videos), PIECE_NAMES)
    ]
    return np.frombuffer(b"".join(digests), ">i8").astype(np.int64)


def sort_cells(videos: Sequence[bytes], types: Sequence[bytes], cells: Cells) -> Run:
    """A run of cells that need not be in order. `cells.series`: places in `videos` and `types`; these may hold more."""
    used, video = np.unique(cells.series >> TYPE_BITS, return_inverse=True)
    names = [videos[place] for place in used.tolist()]
    series = (video.astype(np.uint64) << TYPE_BITS) | (cells.series & TYPE_MASK)
    return merge(
        [
            Part(
                names_of(names),
                hashes_of(names),
                types,
                Cells(series, cells.minute, cells.count, cells.values),
            )
        ]
    )


def merge(parts: Sequence[Part]) -> Run:
    """The cells of all parts in one run; equal keys become one cell, except where a count might not fit."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return NOTHING
    names = join_names([part.names for part in parts])
    hashes = np.concatenate([part.hashes for part in parts])
    types = sorted({name for part in parts for name in part.types})
    cells = join_cells(
        [_with_types(part, types, first) for part, first in zip(parts, _firsts(parts), strict=True)]
    )
    places, ranks = _rank(names, hashes)
    keys = _Keys(cells, ranks, len(places), len(types))
    return Run(names.take(places), hashes[places], types, _merge_sorted(keys, cells))


def coarsen(run: Run, grain: Grain) -> Run:
    """The cells of a run by hour, by day or all together; a count that might not fit stays apart."""
    cells = run.cells
    start = cells.minute // grain.minutes * grain.minutes * (grain is not Grain.TOTAL)
    return merge(
        [Part(run.names, run.hashes, run.types, Cells(cells.series, start, cells.count, cells.values))]
    )


def count_events(
    names: Names,
    hashes: Numbers,
    types: Sequence[bytes],
    series: Series,
    minute: Numbers,
    value: npt.NDArray[np.float64] | None,
) -> Run:
    """A run of single events: (n,) series and minutes, as of a Part, and values, NaN for none."""
    part = Part(
        names, hashes, types, Cells(series, minute, np.ones(len(series), np.int64), _values_of(value))
    )
    if value is not None:
        return merge([part])
    types = sorted(set(types))
    places, ranks = _rank(names, hashes)
    keys = _Keys(_with_types(part, types, 0), ranks, len(places), len(types))
    if keys.packed is None:
        return merge([part])
    packed = np.sort(keys.packed)
    starts = _starts(packed[1:] != packed[:-1])
    count = np.diff(starts, append=len(packed))
    return Run(names.take(places), hashes[places], types, Cells(*keys.unpack(packed[starts]), count))


def _values_of(value: npt.NDArray[np.float64] | None) -> ValueCells | None:
    if value is None:
        return None
    has_value = ~np.isnan(value)
    held = np.where(has_value, value, 0.0)
    return ValueCells(has_value.astype(np.int64), held, value, value, np.zeros(len(value)))


def _firsts(parts: Sequence[Part]) -> list[int]:
    """The place of each part's first video among all of them."""
    sizes = [len(part.hashes) for part in parts]
    return [sum(sizes[:n]) for n in range(len(sizes))]


def _with_types(part: Part, types: Sequence[bytes], first: int) -> Cells:
    """The cells of a part, with other places for videos, from `first` on, and for event types."""
    cells = part.cells
    series = cells.series
    if part.types != types:
        places = {name: place for place, name in enumerate(types)}
        place = np.fromiter(map(places.__getitem__, part.types), np.uint64, len(part.types))
        series = (series & ~TYPE_MASK) | place[(series & TYPE_MASK).astype(np.intp)]
    if first:
        series = series + (np.uint64(first) << TYPE_BITS)
    return Cells(series, cells.minute, cells.count, cells.values)


def _rank(names: Names, hashes: Numbers) -> tuple[npt.NDArray[np.intp], Series]:
    """A place for each video, in their order, and the number (v,) of each place in that order."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    is_same = np.zeros(len(order), np.bool_)
    is_same[1:] = ordered[1:] == ordered[:-1]
    again = np.flatnonzero(is_same)
    if len(again) and not names.are_equal(order[again], order[again - 1]).all():
        order = np.lexsort([*names.sort_keys(), hashes])
        is_same[again] = (hashes[order[again]] == hashes[order[again - 1]]) & names.are_equal(
            order[again], order[again - 1]
        )
    ranks = np.empty(len(order), np.uint64)
    ranks[order] = np.cumsum(~is_same) - 1
    return order[~is_same], ranks


class _Keys:
    """The keys of cells: a number each, wherever the numbers of videos, event types and minutes fit into one."""

    def __init__(self, cells: Cells, ranks: Series, videos: int, types: int) -> None:
        self.video = ranks[(cells.series >> TYPE_BITS).astype(np.intp)]
        self.event_type = cells.series & TYPE_MASK
        self.minute = cells.minute
        self._first = int(cells.minute.min())
        self._minute_bits = (int(cells.minute.max()) - self._first).bit_length()
        self._bits = self._minute_bits + (types - 1).bit_length()
        self.packed: Series | None = None
        if self._bits + (videos - 1).bit_length() <= _KEY_BITS:
            packed: Series = self.video << np.uint64(self._bits)
            packed |= self.event_type << np.uint64(self._minute_bits)
            packed |= (self.minute - self._first).astype(np.uint64)
            self.packed = packed

    def order(self) -> npt.NDArray[np.intp]:
        """The places of cells, in the order of their keys."""
        if self.packed is None:
            return np.lexsort((self.minute, self.event_type, self.video))
        return np.argsort(self.packed)

    def at(self, order: npt.NDArray[np.intp]) -> tuple[Series, Numbers]:
        """The series and minutes of cells."""
        if self.packed is not None:
            return self.unpack(self.packed[order])
        return (self.video[order] << TYPE_BITS) | self.event_type[order], self.minute[order]

    def unpack(self, packed: Series) -> tuple[Series, Numbers]:
        event_type = (packed & np.uint64((1 << self._bits) - 1)) >> np.uint64(self._minute_bits)
        minute = (packed & np.uint64((1 << self._minute_bits) - 1)).astype(np.int64) + self._first
        return (packed >> np.uint64(self._bits) << TYPE_BITS) | event_type, minute


def _merge_sorted(keys: _Keys, cells: Cells) -> Cells:
    order = keys.order()
    series, minute = keys.at(order)
    count = cells.count[order]
    values = cells.values and ValueCells(*(column[order] for column in cells.values.columns()))
    if float(count.sum(dtype=np.float64)) > _MOST_EVENTS:
        return Cells(series, minute, count, values)
    starts = _starts((series[1:] != series[:-1]) | (minute[1:] != minute[:-1]))
    if len(starts) == len(series):
        return Cells(series, minute, count, values)
    return Cells(
        series[starts],
        minute[starts],
        np.add.reduceat(count, starts),
        values and merge_values(values, starts),
    )


def _starts(are_different: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Where groups begin, of which each but the first differs from what is before."""
    return np.append(0, np.flatnonzero(are_different) + 1)
