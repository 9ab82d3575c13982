"""Where a video's events go, for ever, and that a cut neither loses nor changes any of them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.partition import cut, partition_of, partitions_of
from tests.unit.libs.domain.batches import MODEST, ROWS, Row, batch_of, rows_of

# XXH3 (64 bits, seed 0) of the UTF-8 bytes. Frozen: another number moves videos to partitions where nobody looks
# for what was counted before, and splits a retry from its first attempt. Never change one.
HASHES = {
    "a": 0xE6C632B61E964E1F,
    "MBdVXkSdhwU": 0xCAF0C2CB768F0A61,
    "-_-_-_-_-_-": 0xFDF0A4FB3C73726D,
    "video 1": 0x372CB93A248C19B3,
    "\u00e9": 0xF7940A006CF10CB3,
    "e\u0301": 0xDC0BA6F9447885A8,  # the same letter to a reader, and another id: nothing is normalised
    "日本の動画": 0xC953D25AD7FA2F23,
    "🎬🎬": 0xB7A351C3105CA327,
    "x" * 128: 0x4CA37E83F6CDDD17,
    "ж" * 64: 0xCAD4E8EE49A58763,
}
COUNTS = st.sampled_from([1, 2, 4, 16, 64])


@pytest.mark.parametrize(("video_id", "hashed"), HASHES.items(), ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("partition_count", [1, 2, 16, 4096])
def test_a_video_has_the_partition_that_it_always_had(
    video_id: str, hashed: int, partition_count: int
) -> None:
    assert partition_of(video_id, partition_count) == hashed % partition_count


def test_hashes_are_unsigned() -> None:
    # as a signed number, 0xE6C6… modulo 3 would be another one
    assert partition_of("a", 3) == 0xE6C632B61E964E1F % 3 != (0xE6C632B61E964E1F - 2**64) % 3


def test_the_ids_of_a_dictionary_are_placed_like_single_ones() -> None:
    assert partitions_of(list(HASHES), 16).tolist() == [partition_of(video_id, 16) for video_id in HASHES]


def test_videos_spread_over_all_partitions() -> None:
    counted = np.bincount(partitions_of([f"video {n}" for n in range(16_000)], 16), minlength=16)
    assert counted.min() > 850
    assert counted.max() < 1150


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=40), COUNTS)
def test_a_cut_keeps_every_event_as_it_is_and_in_its_order(rows: list[Row], partition_count: int) -> None:
    parts = [(partition, rows_of(part)) for partition, part in cut(batch_of(rows), partition_count)]
    assert Counter(row for _, part in parts for row in part) == Counter(rows)
    for partition, part in parts:
        assert part == [row for row in rows if partition_of(row.video_id, partition_count) == partition]


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=40), COUNTS)
def test_each_partition_comes_once_and_in_ascending_order(rows: list[Row], partition_count: int) -> None:
    partitions = [partition for partition, _ in cut(batch_of(rows), partition_count)]
    assert partitions == sorted({partition_of(row.video_id, partition_count) for row in rows})


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=40), COUNTS)
def test_the_dictionaries_of_a_part_hold_what_it_uses_and_nothing_else(
    rows: list[Row], partition_count: int
) -> None:
    for _, part in cut(batch_of(rows, spare=("not used", "nor this")), partition_count):
        held = rows_of(part)
        assert sorted(part.video_ids) == sorted({row.video_id for row in held})
        assert set(part.event_types) >= {row.event_type for row in held}
        assert sorted(part.actor_ids) == sorted({row.actor_id for row in held if row.actor_id is not None})


def test_a_part_of_a_batch_with_many_event_types_holds_those_that_it_uses() -> None:
    rows = [Row(f"video {n % 40}", f"type {n}") for n in range(400)]
    for _, part in cut(batch_of(rows), 16):
        assert sorted(part.event_types) == sorted({row.event_type for row in rows_of(part)})


@MODEST
@given(st.lists(ROWS, min_size=1, max_size=40), COUNTS)
def test_a_retry_is_cut_the_same_way(rows: list[Row], partition_count: int) -> None:
    # The same down to the last byte of each dictionary and index: a payload is compared by its bytes.
    first, second = ([*cut(batch_of(rows), partition_count)] for _ in range(2))
    assert repr(first) == repr(second)


def test_a_cut_leaves_the_batch_as_it_was() -> None:
    rows = [Row(f"video {n}", "view", actor_id=f"actor {n % 3}") for n in range(20)]
    batch = batch_of(rows)
    list(cut(batch, 4))
    assert rows_of(batch) == rows


def test_equal_strings_in_a_dictionary_are_one_video() -> None:
    batch = batch_of([Row("a", "view"), Row("b", "view")], spare=("a",))
    batch.video_index[1] = 0  # the spare "a" instead of "b"
    (part,) = [rows_of(part) for _, part in cut(batch, 16)]
    assert part == [Row("a", "view"), Row("a", "view")]


def test_a_full_request_of_different_actors_keeps_each() -> None:
    rows = [Row(f"video {n % 7}", "view", actor_id=f"actor {n}") for n in range(50_000)]
    kept = [row for _, part in cut(batch_of(rows), 4) for row in rows_of(part)]
    assert sorted(row.actor_id or "" for row in kept) == sorted(f"actor {n}" for n in range(50_000))
