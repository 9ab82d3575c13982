"""The buffer: events that are journaled and not in the rollups yet, added up by (video, event type, minute)."""

from itertools import chain

import numpy as np
import numpy.typing as npt

from libs.domain.blocks import PIECE_NAMES, TYPE_BITS, Run, sort_cells
from libs.domain.cells import NO_CELLS, Cells, cells_of_events, merge_cells
from libs.domain.minutes import MINUTE_US
from services.counting.journal.entry import NumberedEntry
from tally.contract.rules import NO_TIME

_CHUNK_EVENTS = 8_192
"""So many single events are added up in one go: enough that what numpy costs for each call does not matter, few enough
that the event loop stops for no longer than an insert takes. (Chunks of 65,536 take a sixth less time in all, and stop
it for 20 to 60 ms each. A merge of chunks may stop it for longer, but there are few.)"""
_MERGE_AFTER = 2
"""Chunks are merged when they have this many times the cells of the last merge: each cell is sorted a few times."""


class Names(dict[str, int]):
    """Numbers for strings, in the order in which they came; a new one for a new string."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


class Buffer:
    """Adds up entries and returns them as a run. Does no I/O and is independent of logs."""

    def __init__(self) -> None:
        self.event_count = 0
        self._videos = Names()
        self._types = Names()
        self._waiting: list[NumberedEntry] = []
        self._waiting_events = 0
        self._chunks: list[Cells] = []
        self._merged_cells = 0

    @property
    def cell_count(self) -> int:
        """An upper bound of the cells."""
        return sum(len(chunk) for chunk in self._chunks) + self._waiting_events

    def add(self, numbered: NumberedEntry) -> None:
        """Add the events of one entry. Never fails for an entry that was decoded."""
        self._waiting.append(numbered)
        self._waiting_events += len(numbered.entry.events)
        self.event_count += len(numbered.entry.events)
        if self._waiting_events >= _CHUNK_EVENTS:
            self._add_up()

    def run(self) -> Run:
        """All that was added, one cell for each key, in the order of blocks."""
        self._add_up()
        cells = merge_cells(self._chunks) if self._chunks else NO_CELLS
        return sort_cells(_encoded(list(self._videos)), _encoded(list(self._types)), cells)

    def _add_up(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting, self._waiting_events = self._waiting, [], 0
        events = [numbered.entry.events for numbered in waiting]
        video = _numbers_of_events(
            self._videos, [e.video_ids for e in events], [e.video_index for e in events]
        )
        event_type = _numbers_of_events(
            self._types, [e.event_types for e in events], [e.event_type_index for e in events]
        )
        series = (video << TYPE_BITS) | event_type
        self._chunks.append(cells_of_events(series, _minutes(waiting), _values(waiting)))
        if len(self._chunks) > 1 and self.cell_count > _MERGE_AFTER * max(self._merged_cells, _CHUNK_EVENTS):
            self._chunks = [merge_cells(self._chunks)]
            self._merged_cells = len(self._chunks[0])


def _numbers_of_events(
    names: Names, dictionaries: list[list[str]], indexes: list[npt.NDArray[np.uint16]]
) -> npt.NDArray[np.uint64]:
    sizes = np.array([len(dictionary) for dictionary in dictionaries])
    numbers = np.fromiter(
        map(names.__getitem__, chain.from_iterable(dictionaries)), np.uint64, int(sizes.sum())
    )
    starts = np.repeat(np.cumsum(sizes) - sizes, [len(index) for index in indexes])
    index: npt.NDArray[np.intp] = np.concatenate(indexes).astype(np.intp) + starts
    return numbers[index]


def _minutes(waiting: list[NumberedEntry]) -> npt.NDArray[np.int64]:
    """The minute of each event: that of its own time, or of its entry's receipt."""
    received = np.repeat(
        np.array([numbered.received_at_us for numbered in waiting], np.int64),
        [len(numbered.entry.events) for numbered in waiting],
    )
    if any(numbered.entry.events.time_us is not None for numbered in waiting):
        own = np.concatenate(
            [_or_none(n.entry.events.time_us, len(n.entry.events), NO_TIME) for n in waiting]
        )
        received = np.where(own == NO_TIME, received, own)
    return received // MINUTE_US


def _values(waiting: list[NumberedEntry]) -> npt.NDArray[np.float64] | None:
    if all(numbered.entry.events.value is None for numbered in waiting):
        return None
    return np.concatenate([_or_none(n.entry.events.value, len(n.entry.events), np.nan) for n in waiting])


def _or_none(column: npt.NDArray[np.generic] | None, n: int, none: float) -> npt.NDArray[np.generic]:
    return np.full(n, none) if column is None else column


def _encoded(names: list[str]) -> list[bytes]:
    """The UTF-8 bytes of each name."""
    return [
        name
        for begin in range(0, len(names), PIECE_NAMES)
        for name in map(str.encode, names[begin : begin + PIECE_NAMES])
    ]
