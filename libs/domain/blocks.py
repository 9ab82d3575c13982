"""Blocks: cells as bytes, in which Postgres keeps the rollups (ADR 27).

A run is a set of cells in the order of (hash of the video, video, event type, minute), and is cut into blocks. The
cells of one hash are in one block, unless they fill more than one; then all their blocks begin with them. Pure: no I/O.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from libs.domain.cells import NO_CELLS, Cell, Cells, ValueCells, join_cells, merge_cells
from libs.domain.grains import Grain
from tally.contract.errors import Unavailable

VERSION, GRAIN_VERSION = 1, 2
"""Of blocks of minutes, and of those of hours, days and totals, which a version of before must not take for minutes."""
BLOCK_CELLS, VALUED_BLOCK_CELLS = 240, 120
"""The most cells of a block, without values and with them: nearly all blocks so fit into a page of Postgres."""
TYPE_BITS = np.uint64(32)
"""A series is one number: 32 bits for the video, 32 for the event type."""
PIECE_NAMES = 8_192
"""So many names are handled in one hold of the interpreter's lock."""
HASHES_AT = 16
"""Where the hashes of a body begin, in bytes."""

_TYPE_MASK = np.uint64(0xFFFFFFFF)
_HEADER = struct.Struct(">BBHHHq")
_FEW_TYPES = 16
"""So many event types may be in every block, used or not: to leave some out costs more than to keep them."""
_WIDTHS = tuple(np.dtype(code) for code in (">u1", ">u2", ">u4", ">u8"))
_LARGEST = np.array([2**8 - 1, 2**16 - 1, 2**32 - 1], np.uint64)
_LONG_NAMES, _HAS_VALUES = 16, 32
"""Flags, beside two bits each for the widths of minutes and counts, and for the grain."""
_GRAIN_SHIFT = 6
_MOST = 2**63 - 1

Numbers = npt.NDArray[np.int64]


class UnknownVersion(Unavailable):
    """A body was written by a later version of Tally."""


@dataclass(frozen=True, slots=True)
class Block:
    """A row of `rollup_block`, without the key of its run."""

    first: int
    """the hash of its first cell"""
    cells: int
    events: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Cells in the order of blocks. `cells.series` has the places of video and event type in 32 bits each."""

    videos: list[bytes]
    """each has cells; in the order of (hash, bytes)"""
    hashes: Numbers
    """(v,) that of each video"""
    types: list[bytes]
    cells: Cells

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a body says; a Run, of which the event types may be unused and in any order."""

    videos: list[bytes]
    hashes: Numbers
    types: list[bytes]
    cells: Cells

    def split(self, bound: int) -> tuple["Decoded | None", "Decoded | None"]:
        """The videos with a hash below a bound, and the others; None: there are none."""
        at = int(np.searchsorted(self.hashes, bound))
        if at == 0:
            return None, self
        if at == len(self.videos):
            return self, None
        edge = int(np.searchsorted(self.cells.series, np.uint64(at) << TYPE_BITS))
        below, rest = self.cells.take(slice(0, edge)), self.cells.take(slice(edge, None))
        series = rest.series - (np.uint64(at) << TYPE_BITS)
        return (
            Decoded(self.videos[:at], self.hashes[:at], self.types, below),
            Decoded(
                self.videos[at:],
                self.hashes[at:],
                self.types,
                Cells(series, rest.minute, rest.count, rest.values),
            ),
        )


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
    """Put cells into the order of blocks. `cells.series`: places in `videos` and `types`; these may hold more."""
    if not len(cells):
        return Run([], np.empty(0, np.int64), [], NO_CELLS)
    video = (cells.series >> TYPE_BITS).astype(np.intp)
    event_type = (cells.series & _TYPE_MASK).astype(np.intp)
    is_used = np.zeros(len(videos), np.bool_)
    is_used[video] = True
    used = np.flatnonzero(is_used)
    hashes = hashes_of([videos[place] for place in used.tolist()])
    order = np.argsort(hashes, kind="stable")
    used, hashes = used[order], hashes[order]
    names = [videos[place] for place in used.tolist()]
    if len(hashes) > 1 and (hashes[1:] == hashes[:-1]).any():
        by_name = sorted(range(len(names)), key=lambda at: (hashes[at], names[at]))
        used, names = used[by_name], [names[at] for at in by_name]
    ranks = np.empty(len(videos), np.uint64)
    ranks[used] = np.arange(len(used), dtype=np.uint64)
    type_order = sorted(range(len(types)), key=types.__getitem__)
    type_ranks = np.empty(len(types), np.uint64)
    type_ranks[type_order] = np.arange(len(types), dtype=np.uint64)
    series = (ranks[video] << TYPE_BITS) | type_ranks[event_type]
    if (cells.minute == cells.minute[0]).all():
        in_order = np.argsort(series, kind="stable")
    else:
        in_order = np.lexsort((cells.minute, series))
    return Run(
        names,
        hashes,
        [types[place] for place in type_order],
        Cells(
            series[in_order],
            cells.minute[in_order],
            cells.count[in_order],
            cells.values and cells.take(in_order).values,
        ),
    )


def cut_run(run: Run) -> list[int]:
    """Where blocks begin: indices of cells, ascending, and the number of cells at the end."""
    count = len(run)
    has_values = run.cells.values is not None and bool(run.cells.values.value_count.any())
    most = VALUED_BLOCK_CELLS if has_values else BLOCK_CELLS
    hashes = run.hashes[(run.cells.series >> TYPE_BITS).astype(np.intp)]
    begins = np.zeros(count, np.intp)
    begins[1:] = np.where(hashes[1:] != hashes[:-1], np.arange(1, count), 0)
    begins = np.maximum.accumulate(begins)
    edges = [0] if count else []
    while edges and edges[-1] + most < count:
        begin = int(begins[edges[-1] + most])
        edges.append(begin if begin > edges[-1] else edges[-1] + most)
    return [*edges, count]


def encode(run: Run, grain: Grain = Grain.MINUTE) -> list[Block]:
    """The blocks of a run whose cells are of a grain, in their order."""
    if not len(run):
        return []
    edges = cut_run(run)
    cells, starts = run.cells, np.array(edges[:-1])
    video = (cells.series >> TYPE_BITS).astype(np.intp)
    event_type = (cells.series & _TYPE_MASK).astype(np.intp)
    first_cell = np.append(np.searchsorted(video, np.arange(len(run.videos))), len(cells))
    sizes = np.fromiter(map(len, run.videos), np.int64, len(run.videos))
    ends = np.append(0, np.cumsum(sizes)).tolist()
    names = b"".join(run.videos)
    hashes = run.hashes.astype(">i8")
    times = cells.minute if grain.minutes == 1 else cells.minute // grain.minutes
    base = np.minimum.reduceat(times, starts)
    minute = (times - np.repeat(base, np.diff(edges))).astype(np.uint64)
    minute_width = _widths_of(np.maximum.reduceat(minute, starts))
    count_width = _widths_of(np.maximum.reduceat(cells.count, starts).astype(np.uint64))
    events = _sums(cells.count, edges)
    blocks = []
    for number, (a, b) in enumerate(pairwise(edges)):
        va, vb = int(video[a]), int(video[b - 1]) + 1
        types, type_index = run.types, event_type[a:b]
        if len(types) > _FEW_TYPES:
            used, type_index = np.unique(type_index, return_inverse=True)
            types = [types[place] for place in used.tolist()]
        flags = int(minute_width[number]) | int(count_width[number]) << 2 | grain << _GRAIN_SHIFT
        count_type = _WIDTHS[count_width[number]]
        size = sizes[va:vb]
        name_type = ">u1"
        if int(size.max()) > 255:
            flags, name_type = flags | _LONG_NAMES, ">u2"
        values: list[bytes] = []
        if cells.values is not None and cells.values.value_count[a:b].any():
            flags |= _HAS_VALUES
            values = _encode_values(cells.values, a, b, count_type)
        body = b"".join(
            (
                _HEADER.pack(
                    GRAIN_VERSION if grain else VERSION, flags, b - a, vb - va, len(types), int(base[number])
                ),
                hashes[va:vb].tobytes(),
                size.astype(name_type).tobytes(),
                np.diff(np.clip(first_cell[va : vb + 1], a, b)).astype(">u1").tobytes(),
                bytes(map(len, types)),
                names[ends[va] : ends[vb]],
                b"".join(types),
                type_index.astype(">u1").tobytes(),
                minute[a:b].astype(_WIDTHS[minute_width[number]]).tobytes(),
                cells.count[a:b].astype(count_type).tobytes(),
                *values,
            )
        )
        blocks.append(Block(int(run.hashes[va]), b - a, events[number], body))
    return blocks


def decode(body: bytes) -> Decoded:
    """What a body says. Raises UnknownVersion."""
    layout = _Layout(body)
    at, videos = layout.names_at, []
    for size in layout.name_sizes.tolist():
        videos.append(body[at : at + size])
        at += size
    video = np.repeat(np.arange(layout.video_count, dtype=np.uint64), layout.cells_of_videos)
    return Decoded(
        videos,
        layout.hashes.astype(np.int64),
        layout.types,
        Cells(
            (video << TYPE_BITS) | layout.type_index.astype(np.uint64),
            layout.minutes,
            layout.counts,
            layout.read_values(),
        ),
    )


def find_cell(bodies: Iterable[bytes], video: bytes, event_type: bytes, start: int, end: int) -> Cell:
    """The aggregate of a video and event type over the minutes [start, end), in some blocks. Raises UnknownVersion."""
    hash_bytes = struct.pack(">q", hash_of(video))
    found = [
        cells
        for layout in map(_Layout, bodies)
        if event_type in layout.types
        for place in layout.places_of(hash_bytes, video)
        if len(cells := layout.read_cells(place, layout.types.index(event_type), start, end))
    ]
    if not found:
        return Cell()
    joined = join_cells(found)
    count = sum(joined.count.tolist())  # of any size
    if joined.values is None or not joined.values.value_count.any():
        return Cell(count)
    values = merge_cells([joined]).values
    assert values is not None  # noqa: S101 - merged cells with values have values
    return Cell(count, *(column[0].item() for column in values.columns()))


def merge(parts: Sequence[Decoded]) -> Run:
    """The cells of all parts in one run; equal keys become one cell, except where a count might not fit."""
    video_names, type_names = _Names(), _Names()
    cells = []
    for part in parts:
        video = np.fromiter(map(video_names.__getitem__, part.videos), np.uint64, len(part.videos))
        kind = np.fromiter(map(type_names.__getitem__, part.types), np.uint64, len(part.types))
        series = (video[(part.cells.series >> TYPE_BITS).astype(np.intp)] << TYPE_BITS) | kind[
            (part.cells.series & _TYPE_MASK).astype(np.intp)
        ]
        cells.append(Cells(series, part.cells.minute, part.cells.count, part.cells.values))
    if not cells:
        return sort_cells([], [], NO_CELLS)
    joined = join_cells(cells)
    fits = sum(int(part.count.max(initial=0)) for part in cells) <= _MOST
    return sort_cells(list(video_names), list(type_names), merge_cells([joined]) if fits else joined)


def coarsen(run: Run, grain: Grain) -> Run:
    """The cells of a run by hour, by day or all together; a count that might not fit stays apart."""
    cells = run.cells
    start = cells.minute // grain.minutes * grain.minutes * (grain is not Grain.TOTAL)
    coarse = Cells(cells.series, start, cells.count, cells.values)
    fits = len(cells) > 0 and float(cells.count.sum(dtype=np.float64)) < _MOST / 2
    return Run(run.videos, run.hashes, run.types, merge_cells([coarse]) if fits else coarse)


class _Names(dict[bytes, int]):
    """Numbers for names, in the order in which they came."""

    def __missing__(self, name: bytes) -> int:
        self[name] = number = len(self)
        return number


class _Layout:
    """Where the parts of a body are; columns are read when they are asked for."""

    def __init__(self, body: bytes) -> None:
        version, flags, cell_count, video_count, type_count, base = _HEADER.unpack_from(body)
        if version not in (VERSION, GRAIN_VERSION):
            raise UnknownVersion(
                f"a block of the rollups is of version {version}, and this Tally reads versions {VERSION} and "
                f"{GRAIN_VERSION}. Run the version that wrote it, or a later one"
            )
        self.body = body
        self.grain = Grain(flags >> _GRAIN_SHIFT)
        self.flags: int = flags
        self.cell_count: int = cell_count
        self.video_count: int = video_count
        self.base: int = base
        name_type = np.dtype(">u2" if self.flags & _LONG_NAMES else ">u1")
        at = HASHES_AT
        self.hashes = np.frombuffer(body, ">i8", self.video_count, at)
        at += 8 * self.video_count
        self.name_sizes = np.frombuffer(body, name_type, self.video_count, at)
        at += name_type.itemsize * self.video_count
        self.cells_of_videos = np.frombuffer(body, ">u1", self.video_count, at)
        at += self.video_count
        type_sizes = body[at : at + type_count]
        self.names_at = at + type_count
        at = self.names_at + int(self.name_sizes.sum(dtype=np.int64))
        edges = list(accumulate(type_sizes, initial=at))
        self.types = [body[a:b] for a, b in pairwise(edges)]
        self._types_at: int = edges[-1]
        self._minute_type: np.dtype[Any] = _WIDTHS[self.flags & 3]
        self._count_type: np.dtype[Any] = _WIDTHS[self.flags >> 2 & 3]

    def places_of(self, hash_bytes: bytes, video: bytes) -> list[int]:
        """The places of a video: none or one."""
        end, at = HASHES_AT + 8 * self.video_count, HASHES_AT
        found = []
        while (at := self.body.find(hash_bytes, at, end)) >= 0:
            place, odd = divmod(at - HASHES_AT, 8)
            if not odd and self._name(place) == video:
                found.append(place)
            at += 1
        return found

    def read_cells(self, place: int, event_type: int, start: int, end: int) -> Cells:
        """The cells of one video and event type over the minutes [start, end), all as of one key."""
        begin = int(self.cells_of_videos[:place].sum(dtype=np.int64))
        own = slice(begin, begin + int(self.cells_of_videos[place]))
        minutes = self.minutes[own]
        chosen = (self.type_index[own] == event_type) & (minutes >= start) & (minutes < end)
        at = np.flatnonzero(chosen) + begin
        values = self.read_values() if len(at) else None
        return Cells(
            np.zeros(len(at), np.uint64),
            np.zeros(len(at), np.int64),
            self.counts[at],
            values and ValueCells(*(column[at] for column in values.columns())),
        )

    def _name(self, place: int) -> bytes:
        at = self.names_at + int(self.name_sizes[:place].sum(dtype=np.int64))
        return self.body[at : at + int(self.name_sizes[place])]

    @property
    def type_index(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.body, np.uint8, self.cell_count, self._types_at)

    @property
    def minutes(self) -> Numbers:
        at = self._types_at + self.cell_count
        minutes: Numbers = np.frombuffer(self.body, self._minute_type, self.cell_count, at).astype(np.int64)
        return (minutes + self.base) * self.grain.minutes

    @property
    def _counts_at(self) -> int:
        return self._types_at + self.cell_count * (1 + self._minute_type.itemsize)

    @property
    def counts(self) -> Numbers:
        return np.frombuffer(self.body, self._count_type, self.cell_count, self._counts_at).astype(np.int64)

    def read_values(self) -> ValueCells | None:
        if not self.flags & _HAS_VALUES:
            return None
        at = self._counts_at + self._count_type.itemsize * self.cell_count
        value_count = np.frombuffer(self.body, self._count_type, self.cell_count, at).astype(np.int64)
        at += self._count_type.itemsize * self.cell_count
        is_valued = value_count > 0
        valued = int(np.count_nonzero(is_valued))
        columns: list[Any] = []
        for none in (0.0, np.nan, np.nan, 0.0):
            column = np.full(self.cell_count, none)
            column[is_valued] = np.frombuffer(self.body, ">f8", valued, at)
            columns.append(column)
            at += 8 * valued
        return ValueCells(value_count, *columns)


def _encode_values(values: ValueCells, a: int, b: int, count_type: np.dtype[Any]) -> list[bytes]:
    value_count = values.value_count[a:b]
    is_valued = value_count > 0
    return [
        value_count.astype(count_type).tobytes(),
        *(column[a:b][is_valued].astype(">f8").tobytes() for column in values.columns()[1:]),
    ]


def _widths_of(most: npt.NDArray[np.uint64]) -> Numbers:
    """(n,) for each number the width, as its place in `_WIDTHS`, that holds it."""
    widths: Numbers = np.searchsorted(_LARGEST, most).astype(np.int64)
    return widths


def _sums(counts: Numbers, edges: Sequence[int]) -> list[int]:
    """The sum of each block, of any size."""
    if int(counts.max()) <= _MOST // BLOCK_CELLS:
        totals: list[int] = np.add.reduceat(counts, np.array(edges[:-1])).tolist()
        return totals
    return [sum(counts[a:b].tolist()) for a, b in pairwise(edges)]
