"""The steps by which a backlog gets into the rollups: each small enough, and together all there is, in order."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from libs.domain.entry import Entry
from services.counting.flush.backlog import Backlog
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.position import Position
from tests.unit.libs.domain.batches import MODEST, Row, batch_of

NOW_US = 1_800_000_000_000_000


def numbered(seq: int, events: int) -> NumberedEntry:
    """An entry with as many cells as events."""
    rows = [Row(f"{seq}/{n}", "view") for n in range(events)]
    return NumberedEntry(seq, NOW_US, Entry(uuid.UUID(int=0), 0, 0, b"", batch_of(rows)))


def steps_of(sizes: list[int], most_cells: int) -> list[tuple[list[str], Position]]:
    """The videos of each step and its end, of entries of these sizes at every second seq."""
    backlog = Backlog(lambda: most_cells)
    for index, size in enumerate(sizes):
        backlog.add(numbered(2 * index + 1, size))
    assert backlog.event_count == backlog.cell_count == sum(sizes)
    steps = [
        (sorted(video.decode() for video in step.buffer.run().videos), step.end)
        for step in backlog.take(2 * len(sizes))
    ]
    assert backlog.event_count == backlog.cell_count == 0
    return steps


def test_what_fits_is_one_step() -> None:
    assert steps_of([2, 3], 5) == [(["1/0", "1/1", "3/0", "3/1", "3/2"], Position(4))]


def test_without_entries_the_step_moves_to_the_cut() -> None:
    [step] = Backlog(lambda: 5).take(7)
    assert (len(step.buffer.run()), step.end) == (0, Position(7))


def test_an_entry_that_is_too_large_is_cut_into_parts() -> None:
    assert [(len(videos), end) for videos, end in steps_of([1, 7, 1], 3)] == [
        (1, Position(2)),
        (3, Position(2, 3)),
        (3, Position(2, 6)),
        (2, Position(6)),
    ]


@MODEST
@given(st.lists(st.integers(1, 12), max_size=8), st.integers(1, 10))
def test_each_event_is_in_the_one_step_that_its_place_is_in(sizes: list[int], most_cells: int) -> None:
    steps = steps_of(sizes, most_cells)
    ends = [end for _, end in steps]
    assert ends == sorted(set(ends))
    start = Position()
    for videos, end in steps:
        assert len(videos) <= most_cells
        assert set(videos) == {
            f"{seq}/{n}"
            for seq, size in zip(range(1, 2 * len(sizes), 2), sizes, strict=True)
            for n in range(size)
            if not is_before(seq, n, start) and is_before(seq, n, end)
        }
        start = end


def is_before(seq: int, index: int, position: Position) -> bool:
    """Whether the event at that index of an entry is before a position."""
    return seq <= position.seq or (seq == position.seq + 1 and index < position.events)
