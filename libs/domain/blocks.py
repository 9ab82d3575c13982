"""Blocks: runs as bytes, in which Postgres keeps the rollups (ADR 27).

A run is cut into blocks. The cells of one hash are in one block, unless they fill more than one; then all their blocks
begin with them. Pure: no I/O.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from libs.domain.cells import Cell, Cells, ValueCells, join_cells, join_values, merge_cells, no_values
from libs.domain.grains import Grain
from libs.domain.names import cut_names, split_names
from libs.domain.runs import NOTHING, TYPE_BITS, TYPE_MASK, Numbers, Part, Run, hash_of
from tally.contract.errors import Unavailable

VERSION, GRAIN_VERSION = 1, 2
"""Of blocks of minutes, and of those of hours, days and totals, which a version of before must not take for minutes."""
BLOCK_CELLS, VALUED_BLOCK_CELLS = 240, 120
"""The most cells of a block, without values and with them: nearly all blocks so fit into a page of Postgres."""
HASHES_AT = 16
"""Where the hashes of a body begin, in bytes."""

_HEADER = struct.Struct(">BBHHHq")
_FEW_TYPES = 16
"""So many event types may be in every block, used or not: to leave some out costs more than to keep them."""
_WIDTHS = tuple(np.dtype(code) for code in (">u1", ">u2", ">u4", ">u8"))
_LARGEST = np.array([2**8 - 1, 2**16 - 1, 2**32 - 1], np.uint64)
_SHORT_NAME = 255
_LONG_NAMES, _HAS_VALUES = 16, 32
"""Flags, beside two bits each for the widths of minutes and counts, and for the grain."""
_GRAIN_SHIFT = 6
_MOST = 2**63 - 1


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
    columns = _Columns(run, edges, grain)
    return [columns.block(number) for number in range(len(edges) - 1)]


class _Columns:
    """A run as bytes, column by column, so that a block is put together from slices."""

    def __init__(self, run: Run, edges: Sequence[int], grain: Grain) -> None:
        cells, starts = run.cells, np.array(edges[:-1])
        video = (cells.series >> TYPE_BITS).astype(np.intp)
        begins_video = np.ones(len(cells), np.bool_)
        begins_video[1:] = video[1:] != video[:-1]
        begins_video[starts] = True
        pieces = np.flatnonzero(begins_video)
        times = cells.minute if grain.minutes == 1 else cells.minute // grain.minutes
        base = np.minimum.reduceat(times, starts)
        self._version, self._grain_flag = GRAIN_VERSION if grain else VERSION, grain << _GRAIN_SHIFT
        self._values = cells.values
        self._edges = edges
        self._minute = (times - np.repeat(base, np.diff(edges))).astype(np.uint64)
        self._count = cells.count
        self._event_type = (cells.series & TYPE_MASK).astype(np.uint32)
        self._base = base.tolist()
        self._minute_width = _widths_of(np.maximum.reduceat(self._minute, starts)).tolist()
        self._count_width = _widths_of(np.maximum.reduceat(cells.count, starts).astype(np.uint64)).tolist()
        self._events = _sums(cells.count, edges)
        self._first_video, self._last_video = video[starts].tolist(), video[np.array(edges[1:]) - 1].tolist()
        self._first_piece = np.searchsorted(pieces, starts).tolist()
        self._cells_of_pieces = np.diff(pieces, append=len(cells)).astype(np.uint8).tobytes()
        self._first = run.hashes[video[starts]].tolist()
        self._hashes = run.hashes.astype(">i8").tobytes()
        self._sizes = run.names.sizes
        self._are_names_short = int(self._sizes.max()) <= _SHORT_NAME
        self._name_sizes = self._sizes.astype(">u1" if self._are_names_short else ">u2").tobytes()
        self._names = run.names.joined()
        self._name_at = np.append(0, np.cumsum(self._sizes)).tolist()
        self._types = run.types
        self._type_sizes, self._type_names = bytes(map(len, run.types)), b"".join(run.types)
        self._narrow = [
            column.astype(np.uint8).tobytes() for column in (self._event_type, self._minute, self._count)
        ]

    def block(self, number: int) -> Block:
        """One of the blocks."""
        a, b = self._edges[number], self._edges[number + 1]
        va, vb = self._first_video[number], self._last_video[number] + 1
        piece = self._first_piece[number]
        minute_width, count_width = self._minute_width[number], self._count_width[number]
        event_types, minutes, counts = (column[a:b] for column in self._narrow)
        type_count, type_sizes, type_names = len(self._types), self._type_sizes, self._type_names
        if type_count > _FEW_TYPES:
            used, index = np.unique(self._event_type[a:b], return_inverse=True)
            types = [self._types[place] for place in used.tolist()]
            type_count, type_sizes, type_names = len(types), bytes(map(len, types)), b"".join(types)
            event_types = index.astype(np.uint8).tobytes()
        if minute_width:
            minutes = self._minute[a:b].astype(_WIDTHS[minute_width]).tobytes()
        if count_width:
            counts = self._count[a:b].astype(_WIDTHS[count_width]).tobytes()
        flags = minute_width | count_width << 2 | self._grain_flag
        name_sizes = self._name_sizes[va:vb]
        if not self._are_names_short:
            flags, name_sizes = flags | _LONG_NAMES, self._name_sizes[2 * va : 2 * vb]
        values: list[bytes] = []
        if self._values is not None and self._values.value_count[a:b].any():
            flags |= _HAS_VALUES
            values = _encode_values(self._values, a, b, _WIDTHS[count_width])
        body = b"".join(
            (
                _HEADER.pack(self._version, flags, b - a, vb - va, type_count, self._base[number]),
                self._hashes[8 * va : 8 * vb],
                name_sizes,
                self._cells_of_pieces[piece : piece + vb - va],
                type_sizes,
                self._names[self._name_at[va] : self._name_at[vb]],
                type_names,
                event_types,
                minutes,
                counts,
                *values,
            )
        )
        return Block(self._first[number], b - a, self._events[number], body)


def decode(body: bytes) -> Run:
    """What a body says; its event types are in any order, and may be unused. Raises UnknownVersion."""
    part = decode_all([body])
    return Run(part.names, part.hashes, part.types, part.cells)


def decode_all(bodies: Sequence[bytes]) -> Part:
    """What some bodies say, one after the other. Raises UnknownVersion."""
    if not bodies:
        return NOTHING
    layouts = [_Layout(body) for body in bodies]
    types: list[bytes] = []
    first_types: dict[tuple[bytes, bytes], int] = {}
    for layout in layouts:
        key = (layout.type_sizes, layout.type_names)
        if key not in first_types:
            first_types[key] = len(types)
            types += layout.types
    sizes = [layout.cell_count for layout in layouts]
    cells_of_videos = np.concatenate([layout.cells_of_videos for layout in layouts])
    video = np.repeat(np.arange(len(cells_of_videos), dtype=np.uint64), cells_of_videos)
    event_type = np.concatenate([layout.type_index for layout in layouts]).astype(np.uint64)
    if len(first_types) > 1:
        firsts = [first_types[layout.type_sizes, layout.type_names] for layout in layouts]
        event_type += np.repeat(np.array(firsts, np.uint64), sizes)
    minute = _join([layout.minute_offsets for layout in layouts])
    minute += np.repeat(np.array([layout.base for layout in layouts]), sizes)
    if any(layout.grain.minutes > 1 for layout in layouts):
        minute *= np.repeat(np.array([layout.grain.minutes for layout in layouts]), sizes)
    values = None
    if any(layout.has_values for layout in layouts):
        values = join_values([layout.read_values() for layout in layouts])
    return Part(
        cut_names(
            b"".join([layout.names for layout in layouts]), _join([layout.name_sizes for layout in layouts])
        ),
        _join([layout.hashes for layout in layouts]),
        types,
        Cells(
            (video << TYPE_BITS) | event_type, minute, _join([layout.counts for layout in layouts]), values
        ),
    )


def _join(columns: Sequence[npt.NDArray[Any]]) -> Numbers:
    joined: Numbers = np.concatenate(columns, dtype=np.int64, casting="unsafe")
    return joined


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
        self.cell_count: int = cell_count
        self.video_count: int = video_count
        self.base: int = base
        self.has_values = bool(flags & _HAS_VALUES)
        self._name_type: np.dtype[Any] = _WIDTHS[1 if flags & _LONG_NAMES else 0]
        self._minute_type: np.dtype[Any] = _WIDTHS[flags & 3]
        self._count_type: np.dtype[Any] = _WIDTHS[flags >> 2 & 3]
        self._sizes_at = HASHES_AT + 8 * video_count
        self._cells_at = self._sizes_at + self._name_type.itemsize * video_count
        type_sizes_at = self._cells_at + video_count
        self.names_at = type_sizes_at + type_count
        self.type_sizes: bytes = body[type_sizes_at : self.names_at]
        if self.has_values:
            self.names_end = self.names_at + int(self.name_sizes.sum(dtype=np.int64))
            self._types_at = self.names_end + sum(self.type_sizes)
        else:
            self._types_at = len(body) - cell_count * (
                1 + self._minute_type.itemsize + self._count_type.itemsize
            )
            self.names_end = self._types_at - sum(self.type_sizes)
        self._minutes_at = self._types_at + cell_count
        self._counts_at = self._minutes_at + cell_count * self._minute_type.itemsize

    @property
    def hashes(self) -> npt.NDArray[Any]:
        return np.frombuffer(self.body, ">i8", self.video_count, HASHES_AT)

    @property
    def name_sizes(self) -> npt.NDArray[Any]:
        return np.frombuffer(self.body, self._name_type, self.video_count, self._sizes_at)

    @property
    def cells_of_videos(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.body, np.uint8, self.video_count, self._cells_at)

    @property
    def names(self) -> bytes:
        return self.body[self.names_at : self.names_end]

    @property
    def type_names(self) -> bytes:
        """Those of all types, one after the other."""
        return self.body[self.names_end : self._types_at]

    @property
    def types(self) -> list[bytes]:
        return split_names(self.type_names, self.type_sizes)

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
        minutes = (self.minute_offsets[own].astype(np.int64) + self.base) * self.grain.minutes
        chosen = (self.type_index[own] == event_type) & (minutes >= start) & (minutes < end)
        at = np.flatnonzero(chosen) + begin
        values = self.read_values() if self.has_values and len(at) else None
        return Cells(
            np.zeros(len(at), np.uint64),
            np.zeros(len(at), np.int64),
            self.counts[at].astype(np.int64),
            values and ValueCells(*(column[at] for column in values.columns())),
        )

    def _name(self, place: int) -> bytes:
        at = self.names_at + int(self.name_sizes[:place].sum(dtype=np.int64))
        return self.body[at : at + int(self.name_sizes[place])]

    @property
    def type_index(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.body, np.uint8, self.cell_count, self._types_at)

    @property
    def minute_offsets(self) -> npt.NDArray[Any]:
        """(n,) to be added to `base`; the sums are in units of the grain"""
        return np.frombuffer(self.body, self._minute_type, self.cell_count, self._minutes_at)

    @property
    def counts(self) -> npt.NDArray[Any]:
        return np.frombuffer(self.body, self._count_type, self.cell_count, self._counts_at)

    def read_values(self) -> ValueCells:
        at = self._counts_at + self._count_type.itemsize * self.cell_count
        if not self.has_values:
            return no_values(self.cell_count)
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
