"""Blocks against a dictionary of cells: what is encoded is decoded, found and merged, whatever the cells are."""

from collections import defaultdict
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain import blocks, runs
from libs.domain.blocks import (
    BLOCK_CELLS,
    GRAIN_VERSION,
    Block,
    UnknownVersion,
    decode,
    decode_all,
    encode,
    find_cell,
)
from libs.domain.cells import Cell, Cells, ValueCells
from libs.domain.grains import COARSE, Grain
from libs.domain.runs import TYPE_BITS, Run, coarsen, hash_of, merge, sort_cells
from tests.unit.libs.domain.oracle import Truth, cell_of

Key = tuple[str, str, int]
Held = dict[Key, list[float | None]]
"""for each cell the values of its events, None for an event without one"""

VIDEOS = ["a", "b", "é", "🎬", "x" * 128, "long " * 25, "dQw4w9WgXcQ", *(f"video {n}" for n in range(12))]
TYPES = ["view", "like", *(f"type_{n:02}" for n in range(20))]

videos = st.sampled_from(VIDEOS)
minutes = st.one_of(st.integers(28_000_000, 28_000_003), st.integers(-(2**40), 2**40))
values = st.one_of(st.none(), st.integers(-(2**20), 2**20).map(float))
events = st.lists(values, min_size=1, max_size=3)
held = st.dictionaries(st.tuples(videos, st.sampled_from(TYPES), minutes), events, max_size=60)


def run_of(cells: Held) -> Run:
    """What a flush would write of these cells."""
    video_places = {name: n for n, name in enumerate(VIDEOS)}
    type_places = {name: n for n, name in enumerate(TYPES)}
    told = [cell_of(each) for each in cells.values()]
    none = [np.nan if cell.min is None else cell.min for cell in told]
    most = [np.nan if cell.max is None else cell.max for cell in told]
    has_values = any(cell.value_count for cell in told)
    return sort_cells(
        [name.encode() for name in VIDEOS],
        [name.encode() for name in TYPES],
        Cells(
            np.array([video_places[v] << int(TYPE_BITS) | type_places[t] for v, t, _ in cells], np.uint64),
            np.array([minute for *_, minute in cells], np.int64),
            np.array([cell.count for cell in told], np.int64),
            ValueCells(
                np.array([cell.value_count for cell in told], np.int64),
                np.array([cell.sum for cell in told]),
                np.array(none),
                np.array(most),
                np.array([cell.m2 for cell in told]),
            )
            if has_values
            else None,
        ),
    )


def told_by(decoded: Run) -> dict[Key, Cell]:
    """Every cell, each key once."""
    found: dict[Key, Cell] = {}
    videos = decoded.videos
    for n in range(len(decoded.cells)):
        series = int(decoded.cells.series[n])
        key = (
            videos[series >> 32].decode(),
            decoded.types[series & 0xFFFFFFFF].decode(),
            int(decoded.cells.minute[n]),
        )
        cell = Cell(int(decoded.cells.count[n]))
        if decoded.cells.values is not None and decoded.cells.values.value_count[n]:
            cell = Cell(cell.count, *(column[n].item() for column in decoded.cells.values.columns()))
        assert key not in found
        found[key] = cell
    return found


def told_by_blocks(encoded: list[Block]) -> dict[Key, Cell]:
    found: dict[Key, Cell] = {}
    for block in encoded:
        told = told_by(decode(block.body))
        assert not told.keys() & found.keys()
        assert (block.cells, block.events) == (len(told), sum(cell.count for cell in told.values()))
        assert block.first == hash_of(next(iter(told))[0].encode())
        found |= told
    return found


def merged(cells: list[Held]) -> Held:
    total: Held = defaultdict(list)
    for each in cells:
        for key, its in each.items():
            total[key] += its
    return total


def assert_same(found: dict[Key, Cell], expected: Held) -> None:
    assert found.keys() == expected.keys()
    for key, cell in found.items():
        Truth(expected[key]).assert_is(cell)


@given(held, st.integers(1, 9))
def test_what_is_encoded_is_decoded(cells: Held, size: int) -> None:
    with (
        mock.patch.object(blocks, "BLOCK_CELLS", size),
        mock.patch.object(blocks, "VALUED_BLOCK_CELLS", size),
    ):
        encoded = encode(run_of(cells))
    assert_same(told_by_blocks(encoded), cells)
    assert all(block.cells <= size for block in encoded)


@given(held, st.integers(1, 9))
def test_blocks_are_in_order_and_split_no_video_that_fits_into_one(cells: Held, size: int) -> None:
    with (
        mock.patch.object(blocks, "BLOCK_CELLS", size),
        mock.patch.object(blocks, "VALUED_BLOCK_CELLS", size),
    ):
        encoded = [decode(block.body) for block in encode(run_of(cells))]
    keys = [
        (hash_of(video.encode()), video.encode(), kind.encode(), minute)
        for each in encoded
        for video, kind, minute in told_by(each)
    ]
    assert keys == sorted(keys)
    for before, after in pairwise(encoded):
        if before.videos[-1] == after.videos[0]:
            assert before.videos == before.videos[-1:]


@settings(max_examples=60)
@given(st.lists(held, max_size=9), st.integers(1, 9))
def test_a_merge_of_runs_says_what_their_cells_say_together(cells: list[Held], size: int) -> None:
    with (
        mock.patch.object(blocks, "BLOCK_CELLS", size),
        mock.patch.object(blocks, "VALUED_BLOCK_CELLS", size),
    ):
        parts = [decode(block.body) for each in cells for block in encode(run_of(each))]
        assert_same(told_by_blocks(encode(merge(parts))), merged(cells))


@settings(max_examples=60)
@given(st.lists(held, max_size=9), st.integers(1, 9))
def test_blocks_that_are_decoded_together_say_what_each_says(cells: list[Held], size: int) -> None:
    with (
        mock.patch.object(blocks, "BLOCK_CELLS", size),
        mock.patch.object(blocks, "VALUED_BLOCK_CELLS", size),
    ):
        bodies = [block.body for each in cells for block in encode(run_of(each))]
    together = decode_all(bodies)
    assert len(together) == sum(len(decode(body)) for body in bodies)
    assert_same(told_by(merge([together])), merged(cells))


@settings(max_examples=60)
@given(st.lists(held, max_size=5), st.integers(1, 9), st.integers(-(2**63), 2**63 - 1))
def test_parts_below_a_bound_and_the_others_are_the_whole(cells: list[Held], size: int, bound: int) -> None:
    with (
        mock.patch.object(blocks, "BLOCK_CELLS", size),
        mock.patch.object(blocks, "VALUED_BLOCK_CELLS", size),
    ):
        parts = [decode(block.body).split(bound) for each in cells for block in encode(run_of(each))]
        below = encode(merge([part for part, _ in parts if part is not None]))
        rest = encode(merge([part for _, part in parts if part is not None]))
    assert all(hash_of(key[0].encode()) < bound for key in told_by_blocks(below))
    assert all(block.first >= bound for block in rest)
    assert_same(told_by_blocks(below) | told_by_blocks(rest), merged(cells))


@settings(max_examples=60)
@given(st.lists(held, max_size=5), videos, st.sampled_from(TYPES), minutes, minutes)
def test_a_video_is_found_in_whatever_blocks_there_are(
    cells: list[Held], video: str, event_type: str, start: int, end: int
) -> None:
    bodies = [block.body for each in cells for block in encode(run_of(each))]
    asked = [
        value
        for (name, kind, minute), its in merged(cells).items()
        if (name, kind) == (video, event_type) and start <= minute < end
        for value in its
    ]
    Truth(asked).assert_is(find_cell(bodies, video.encode(), event_type.encode(), start, end))


@settings(max_examples=60)
@given(held)
def test_hours_days_and_totals_are_the_sums_of_their_minutes(cells: Held) -> None:
    run = run_of(cells)
    for grain in COARSE:
        run = coarsen(run, grain)
        encoded = encode(run, grain)
        expected: Held = defaultdict(list)
        for (video, kind, minute), its in cells.items():
            start = 0 if grain is Grain.TOTAL else minute // grain.minutes * grain.minutes
            expected[video, kind, start] += its
        assert_same(told_by_blocks(encoded), expected)
        assert {block.body[0] for block in encoded} <= {GRAIN_VERSION}
        again = encode(merge([decode(block.body) for block in encoded]), grain)
        assert_same(told_by_blocks(again), expected)


def test_totals_of_any_size_never_wrap() -> None:
    run = sort_cells(
        [b"a"], [b"view"], Cells(np.zeros(3, np.uint64), np.arange(3), np.full(3, 2**62, np.int64))
    )
    assert coarsen(run, Grain.TOTAL).cells.count.tolist() == [2**62] * 3


def test_videos_of_one_hash_are_told_apart_by_their_names() -> None:
    cells: Held = {(video, "view", n): [None] * (n + 1) for n, video in enumerate(VIDEOS)}
    with (
        mock.patch.object(runs, "hashes_of", lambda names: np.full(len(list(names)), 7)),
        mock.patch.object(blocks, "hash_of", return_value=7),
        mock.patch.object(blocks, "BLOCK_CELLS", 4),
    ):
        encoded = encode(run_of(cells))
        assert len(encoded) > 2
        assert [block.first for block in encoded] == [7] * len(encoded)
        for n, video in enumerate(VIDEOS):
            cell = find_cell([block.body for block in encoded], video.encode(), b"view", 0, 100)
            assert cell == Cell(n + 1)


def test_counts_of_any_size_are_kept_and_never_wrap() -> None:
    large = 2**62 + 5
    run = sort_cells(
        [b"a", b"b"],
        [b"view"],
        Cells(np.array([0, 1 << 32], np.uint64), np.array([1, 1]), np.array([large, 1])),
    )
    bodies = [block.body for block in encode(run)]
    again = [decode(block.body) for block in encode(merge([decode(body) for body in bodies * 3]))]
    assert sum(sum(each.cells.count.tolist()) for each in again) == 3 * (large + 1)
    assert find_cell(bodies * 3, b"a", b"view", 0, 2).count == 3 * large
    # What was left apart is in one block then, and stays apart in the merges that follow.
    apart = [block.body for block in encode(merge([decode(body) for body in bodies * 3]))]
    again = [decode(block.body) for block in encode(merge([decode_all(apart)]))]
    assert sum(sum(each.cells.count.tolist()) for each in again) == 3 * (large + 1)


def test_a_flush_of_one_minute_takes_about_24_bytes_a_cell() -> None:
    names = [f"{n:011}".encode() for n in range(10_000)]
    cells = Cells(
        np.arange(10_000, dtype=np.uint64) << TYPE_BITS,
        np.full(10_000, 28_000_000),
        np.ones(10_000, np.int64),
    )
    encoded = encode(sort_cells(names, [b"view", b"like"], cells))
    assert len(encoded) == -(-10_000 // BLOCK_CELLS)
    assert sum(len(block.body) for block in encoded) / 10_000 < 24.5


def test_a_body_of_another_version_is_refused() -> None:
    [block] = encode(run_of({("a", "view", 1): [None]}))
    with pytest.raises(UnknownVersion, match="version 3"):
        decode(b"\x03" + block.body[1:])
