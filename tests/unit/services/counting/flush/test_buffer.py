"""The buffer against a dictionary: whatever entries come, no event is lost, doubled or moved."""

import math
import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.cells import Cell
from libs.domain.entry import Entry
from libs.domain.runs import Run, hash_of, merge
from services.counting.flush import buffer as module
from services.counting.flush.buffer import Buffer
from services.counting.journal.entry import NumberedEntry
from tests.unit.libs.domain.batches import MODEST, ROWS, Row, batch_of
from tests.unit.libs.domain.oracle import Truth

MINUTE_US = 60_000_000
NOW_US = 1_800_000_000_000_000
Key = tuple[str, str, int]

# Entries of a few rows, each with its receipt, some of them in the same minute.
ENTRIES = st.lists(
    st.tuples(
        st.lists(ROWS, min_size=1, max_size=12), st.integers(0, 5).map(lambda n: NOW_US + n * 20_000_000)
    ),
    max_size=8,
)


def numbered(rows: list[Row], received_at_us: int, spare: tuple[str, ...] = ()) -> NumberedEntry:
    entry = Entry(uuid.UUID(int=0), 0, 0, b"", batch_of(rows, spare))
    return NumberedEntry(1, received_at_us, entry)


def merge_chunks(buffer: Buffer) -> None:
    chunks = buffer.chunks
    buffer.replace_chunks(len(chunks), merge(chunks))


def fill(
    entries: list[tuple[list[Row], int]],
    merge_each: int = 0,
    hashes_of: Callable[[Sequence[bytes]], npt.NDArray[np.int64]] | None = None,
) -> tuple[Buffer, dict[Key, Truth]]:
    """A buffer with the entries, and what it should hold. `merge_each`: after so many entries; 0: never."""
    buffer = Buffer()
    expected: dict[Key, list[float | None]] = defaultdict(list)
    for n, (rows, received_at_us) in enumerate(entries):
        added = numbered(rows, received_at_us)
        if hashes_of is not None:
            events = added.entry.events
            events.video_hashes = hashes_of([name.encode() for name in events.video_ids])
        buffer.add(added)
        if merge_each and n % merge_each == 0:
            merge_chunks(buffer)
        for row in rows:
            time_us = received_at_us if row.time_us is None else row.time_us
            expected[row.video_id, row.event_type, time_us // MINUTE_US].append(row.value)
    return buffer, {key: Truth(values) for key, values in expected.items()}


def keys_of(run: Run) -> list[Key]:
    videos = run.videos
    return [
        (videos[series >> 32].decode(), run.types[series & 0xFFFFFFFF].decode(), minute)
        for series, minute in zip(run.cells.series.tolist(), run.cells.minute.tolist(), strict=True)
    ]


def cells_of(rows: Run) -> dict[Key, Cell]:
    keys = keys_of(rows)
    assert len(keys) == len(set(keys)) == len(rows)
    values = rows.cells.values
    cells = {}
    for index, key in enumerate(keys):
        cell = Cell(int(rows.cells.count[index]))
        if values is not None and values.value_count[index]:
            cell = Cell(cell.count, *(column[index].item() for column in values.columns()))
        elif values is not None:
            assert math.isnan(values.min[index])
            assert math.isnan(values.max[index])
        cells[key] = cell
    return cells


def assert_holds(buffer: Buffer, expected: dict[Key, Truth]) -> None:
    bound = buffer.cell_count
    rows = buffer.run()
    cells = cells_of(rows)
    assert cells.keys() == expected.keys()
    for key, cell in cells.items():
        expected[key].assert_is(cell)
    assert len(rows) <= bound
    assert buffer.event_count == sum(len(truth.values) for truth in expected.values())
    assert_sorted(rows)


def assert_sorted(run: Run) -> None:
    """In the order of blocks; and no video is there without a cell."""
    keys = [
        (hash_of(video_id.encode()), video_id.encode(), event_type.encode(), minute)
        for video_id, event_type, minute in keys_of(run)
    ]
    assert all(left < right for left, right in pairwise(keys))
    assert run.videos == list(dict.fromkeys(key[1] for key in keys))
    assert run.hashes.tolist() == list(map(hash_of, run.videos))


@MODEST
@given(ENTRIES)
def test_every_event_is_in_the_row_of_its_key(entries: list[tuple[list[Row], int]]) -> None:
    assert_holds(*fill(entries))


@MODEST
@given(ENTRIES, st.integers(1, 20), st.integers(1, 3))
def test_it_does_not_matter_where_the_chunks_end_and_are_merged(
    entries: list[tuple[list[Row], int]], chunk_events: int, merge_each: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_EVENTS", chunk_events)
        assert_holds(*fill(entries, merge_each))


@MODEST
@given(ENTRIES, st.integers(1, 20), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_videos_with_the_same_hash_are_told_apart(
    entries: list[tuple[list[Row], int]], chunk_events: int, merge_each: int, hashes: int, are_cut: bool
) -> None:
    """The ids have one hash, or few of them, whether the cut has computed it or the buffer."""

    def few(names: Sequence[bytes]) -> npt.NDArray[np.int64]:
        return np.array([len(name) % hashes for name in names], np.int64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_EVENTS", chunk_events)
        patch.setattr(module, "hashes_of", few)
        buffer, expected = fill(entries, merge_each, few if are_cut else None)
        run = buffer.run()
    cells = cells_of(run)
    assert cells.keys() == expected.keys()
    for key, cell in cells.items():
        expected[key].assert_is(cell)
    keys = [(len(v.encode()) % hashes, v.encode(), t.encode(), minute) for v, t, minute in keys_of(run)]
    assert all(left < right for left, right in pairwise(keys))


def test_chunks_are_merged_once_they_may_hold_many_cells_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_EVENTS", 10)
    monkeypatch.setattr(module, "_MERGE_CELLS", 20)
    buffer = Buffer()
    bounds = []
    for _ in range(200):
        buffer.add(numbered([Row("a", "view")] * 5 + [Row("b", "view")] * 5, NOW_US))
        bounds.append(buffer.cell_count)
        if buffer.is_scattered:
            merge_chunks(buffer)
            assert (buffer.cell_count, buffer.is_scattered) == (2, False)
    # 2,000 events of 2 keys: what is held stays within a few chunks.
    assert max(bounds) <= 22
    assert cells_of(buffer.run()) == {
        ("a", "view", NOW_US // MINUTE_US): Cell(1000),
        ("b", "view", NOW_US // MINUTE_US): Cell(1000),
    }


@MODEST
@given(ENTRIES)
def test_the_bound_holds_after_every_entry(entries: list[tuple[list[Row], int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_EVENTS", 7)
        buffer, keys = Buffer(), set()
        for rows, received_at_us in entries:
            buffer.add(numbered(rows, received_at_us))
            keys |= {
                (row.video_id, row.event_type, (row.time_us or received_at_us) // MINUTE_US) for row in rows
            }
            assert buffer.cell_count >= len(keys)


def test_cells_are_sorted_by_the_hashes_and_the_bytes_of_their_names() -> None:
    names = ["Z", "a", "~", "é", "\uffff", "\U00010000", "🎬", "aa", "a b", "_", "-"]
    random.Random(1).shuffle(names)
    rows = [Row(video_id, event_type) for video_id in names for event_type in ("view", "like", "a.b", "a-b")]
    buffer = Buffer()
    buffer.add(numbered(rows, NOW_US))
    buffer.add(numbered(rows[::-1], NOW_US - MINUTE_US))
    held = buffer.run()
    assert len(held) == 2 * len(rows)
    assert_sorted(held)


def test_a_string_that_a_dictionary_holds_twice_is_one_key() -> None:
    buffer = Buffer()
    entry = numbered([Row("a", "view"), Row("b", "like")], NOW_US, spare=("a", "view"))
    entry.entry.events.video_index[1] = 0  # the other "a"
    entry.entry.events.event_type_index[1] = 1  # the other "view"
    buffer.add(entry)
    assert cells_of(buffer.run()) == {("a", "view", NOW_US // MINUTE_US): Cell(2)}


def test_entries_with_and_without_times_and_values_go_together() -> None:
    buffer, expected = fill(
        [
            ([Row("a", "view")], NOW_US),
            ([Row("a", "view", time_us=NOW_US - MINUTE_US)], NOW_US),
            ([Row("a", "view", value=2.5)], NOW_US),
            ([Row("a", "view", time_us=NOW_US - MINUTE_US, value=0.5), Row("a", "view")], NOW_US),
        ]
    )
    assert_holds(buffer, expected)
    assert {key[2]: (len(t.values), t.held) for key, t in expected.items()} == {
        NOW_US // MINUTE_US: (3, [2.5]),
        NOW_US // MINUTE_US - 1: (2, [0.5]),
    }


def test_an_event_is_of_the_minute_that_it_happened_in() -> None:
    start = NOW_US // MINUTE_US * MINUTE_US
    rows = [Row("a", "view", time_us=start + offset) for offset in (-1, 0, MINUTE_US - 1, MINUTE_US)]
    buffer = Buffer()
    buffer.add(numbered(rows, NOW_US))
    minute = NOW_US // MINUTE_US
    assert [(row.cells.minute.tolist(), row.cells.count.tolist()) for row in [buffer.run()]] == [
        ([minute - 1, minute, minute + 1], [1, 2, 1])
    ]


def test_an_empty_buffer_has_no_rows() -> None:
    buffer = Buffer()
    assert (len(buffer.run()), buffer.cell_count, buffer.event_count) == (0, 0, 0)
