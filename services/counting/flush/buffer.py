"""The buffer: events that are journaled and not in the rollups yet, added up by (video, event type, minute)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from libs.domain.events import Events
from libs.domain.minutes import MINUTE_US
from libs.domain.names import encode_names
from libs.domain.runs import TYPE_BITS, Numbers, Run, count_events, hashes_of, merge
from services.counting.journal.entry import NumberedEntry
from tally.contract.rules import NO_TIME

_CHUNK_EVENTS = 16_384
"""So many single events are added up in one go: enough that what numpy costs for each call does not matter, few enough
that the event loop stops for no longer than about 5 ms."""
_MERGE_CELLS = 131_072
"""Chunks that have fewer cells together are merged by the flush alone."""
_MERGE_AFTER = 2
"""Chunks are merged when they have this many times the cells of the last merge: each cell is sorted a few times."""


class Buffer:
    """Adds up entries and returns them as a run. Does no I/O and is independent of logs.

    `run` may be called in another thread once nothing is added any more. `replace_chunks` may come meanwhile: what the
    chunks say together stays the same.
    """

    def __init__(self) -> None:
        self.event_count = 0
        self._waiting: list[NumberedEntry] = []
        self._waiting_events = 0
        self._chunks: list[Run] = []
        self._chunk_cells = self._merged_cells = 0

    @property
    def cell_count(self) -> int:
        """An upper bound of the cells."""
        return self._chunk_cells + self._waiting_events

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
        chunks = self.chunks
        return chunks[0] if len(chunks) == 1 else merge(chunks)

    @property
    def is_scattered(self) -> bool:
        """Whether many cells may have the keys of others, so that chunks should be merged."""
        most = max(_MERGE_AFTER * self._merged_cells, _MERGE_CELLS)
        return len(self._chunks) > 1 and self._chunk_cells > most

    @property
    def chunks(self) -> Sequence[Run]:
        """The parts that are added up so far."""
        return tuple(self._chunks)

    def replace_chunks(self, count: int, merged: Run) -> None:
        """Put what the first `count` chunks are together in their place; `cell_count` is then near to the cells."""
        self._chunk_cells += len(merged) - sum(map(len, self._chunks[:count]))
        self._merged_cells = len(merged)
        self._chunks[:count] = [merged]

    def _add_up(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting, self._waiting_events = self._waiting, [], 0
        chunk = _count(waiting)
        self._chunks.append(chunk)
        self._chunk_cells += len(chunk)


def _count(waiting: list[NumberedEntry]) -> Run:
    """The cells of some entries."""
    batches = [numbered.entry.events for numbered in waiting]
    sizes = [len(batch.video_index) for batch in batches]
    types: list[str] = []
    first_types: dict[tuple[str, ...], int] = {}
    for batch in batches:
        key = tuple(batch.event_types)
        if key not in first_types:
            first_types[key] = len(types)
            types += key
    event_type = np.concatenate([batch.event_type_index for batch in batches]).astype(np.uint64)
    if len(first_types) > 1:
        firsts = [first_types[tuple(batch.event_types)] for batch in batches]
        event_type += np.repeat(np.array(firsts, np.uint64), sizes)
    videos = np.array([len(batch.video_ids) for batch in batches])
    first_videos = (np.cumsum(videos) - videos).astype(np.uint64)
    video = np.concatenate([batch.video_index for batch in batches]).astype(np.uint64)
    video += np.repeat(first_videos, sizes)
    return count_events(
        encode_names([batch.video_ids for batch in batches]),
        np.concatenate([_hashes(batch) for batch in batches]),
        list(map(str.encode, types)),
        (video << TYPE_BITS) | event_type,
        _minutes(waiting),
        _values(waiting),
    )


def _hashes(events: Events) -> Numbers:
    """Those of the cut, if the events come from one."""
    if events.video_hashes is not None:
        return events.video_hashes
    return hashes_of(list(map(str.encode, events.video_ids)))


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
