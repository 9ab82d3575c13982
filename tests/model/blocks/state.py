"""The state of the model: runs with their blocks, mergers at work on them, a reader and a generation.

A cell is (hash, number of its flush), so that no two are alike. A block is a tuple of cells in order.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

Cell = tuple[int, int]
Block = tuple[Cell, ...]


class Bounds(NamedTuple):
    """The world. The second flush lacks hash 0, and so has other blocks."""

    flushes: tuple[tuple[int, ...], ...] = ((0, 1, 2), (1, 2), (0, 2))
    """the hashes of the cells of each"""
    fan_in: int = 2
    block_cells: int = 1
    piece_blocks: int = 1
    """of each source, in one transaction"""
    mergers: int = 2
    kills: int = 1


class Run(NamedTuple):
    """A row of `rollup_run`, with its blocks."""

    number: int
    level: int
    blocks: tuple[Block, ...]
    into: int | None = None
    is_complete: bool = True


class Merger(NamedTuple):
    """A transaction under way: it holds the target, and has taken blocks out of the sources unless it is about to."""

    target: int
    sources: tuple[int, ...]
    bound: int | None
    taken: tuple[tuple[int, Block], ...] | None = None
    """(source, block); None: it has not begun"""


class State(NamedTuple):
    """One state."""

    runs: tuple[Run, ...]
    strays: tuple[Block, ...]
    """blocks of no run"""
    flushed: int
    mergers: tuple[Merger | None, ...]
    is_sealed: bool
    listed: tuple[int, tuple[int, ...]] | None
    """of a reader of two statements: what was flushed when it began, and the runs that it found"""
    next_number: int
    kills: int
    wrong: str = ""

    def run(self, number: int) -> Run | None:
        return next((run for run in self.runs if run.number == number), None)


Steps = Iterator[tuple[str, State]]


def first(bounds: Bounds) -> State:
    """Nothing is flushed."""
    return State((), (), 0, (None,) * bounds.mergers, False, None, len(bounds.flushes), bounds.kills)


def cells_of(flush: int, bounds: Bounds) -> list[Cell]:
    """What a flush adds."""
    return [(hash_, flush) for hash_ in bounds.flushes[flush]]


def flushed_by(flushed: int, bounds: Bounds) -> list[Cell]:
    """What all flushes before one add."""
    return sorted(cell for flush in range(flushed) for cell in cells_of(flush, bounds))


def encode(cells: Iterable[Cell], size: int) -> tuple[Block, ...]:
    """Blocks of cells: those of one hash are in one block, unless they fill more than one."""
    blocks: list[list[Cell]] = []
    groups: dict[int, list[Cell]] = {}
    for cell in sorted(cells):
        groups.setdefault(cell[0], []).append(cell)
    for group in groups.values():
        if not blocks or len(blocks[-1]) + len(group) > size:
            blocks.append([])
        for cell in group:
            if len(blocks[-1]) >= size:
                blocks.append([])
            blocks[-1].append(cell)
    return tuple(tuple(block) for block in blocks if block)


def find(run: Run, hash_: int) -> list[Cell]:
    """What a reader finds of a hash: in the blocks that begin with it, and the last one that begins before."""
    before = [block for block in run.blocks if block[0][0] < hash_]
    near = [block for block in run.blocks if block[0][0] == hash_] + sorted(before)[-1:]
    return [cell for block in near for cell in block if cell[0] == hash_]


def read(state: State, bounds: Bounds, runs: Iterable[int] | None = None) -> list[Cell]:
    """What a reader finds of all hashes, in the runs that are there or in some of them."""
    seen = None if runs is None else set(runs)
    hashes = {hash_ for flush in bounds.flushes for hash_ in flush}
    return sorted(
        cell
        for run in state.runs
        if seen is None or run.number in seen
        for hash_ in hashes
        for cell in find(run, hash_)
    )
