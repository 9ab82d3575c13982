"""Runs of the rollups in Postgres: each transaction that adds cells writes one, as blocks (ADR 27)."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from libs.domain.blocks import Block

_START = "insert into counting.rollup_run (run_id, generation) values ($1, $2)"
_INSERT = """
insert into counting.rollup_block (generation, run_id, first, number, cells, events, body)
select $1, $2, * from unnest($3::bigint[], $4::integer[], $5::smallint[], $6::bigint[], $7::bytea[])"""


async def add_run(connection: Any, generation: int, blocks: Sequence[Block], statement_cells: int) -> None:
    """Add cells to a generation, within a transaction of the caller's, who knows that their events were never added."""
    if not blocks:
        return
    run_id = make_run_id()
    await connection.execute(_START, run_id, generation)
    await insert_blocks(connection, generation, run_id, blocks, statement_cells)


def make_run_id() -> int:
    """A number for a run: a sequence would repeat after a restore."""
    return secrets.randbits(63)


async def insert_blocks(
    connection: Any, generation: int, run_id: int, blocks: Sequence[Block], statement_cells: int
) -> None:
    """Insert the blocks of a run, or more of them, whose hashes the run does not have yet."""
    numbered = list(enumerate(blocks))
    for piece in pieces(numbered, statement_cells):
        await connection.execute(
            _INSERT,
            generation,
            run_id,
            [block.first for _, block in piece],
            [number for number, _ in piece],
            [block.cells for _, block in piece],
            [block.events for _, block in piece],
            [block.body for _, block in piece],
        )


def pieces(
    numbered: Sequence[tuple[int, Block]], statement_cells: int
) -> Iterator[Sequence[tuple[int, Block]]]:
    """Cut blocks into pieces of about so many cells, at least one block each, in order."""
    begin, cells = 0, 0
    for place, (_, block) in enumerate(numbered):
        if cells and cells + block.cells > statement_cells:
            yield numbered[begin:place]
            begin, cells = place, 0
        cells += block.cells
    if cells:
        yield numbered[begin:]
