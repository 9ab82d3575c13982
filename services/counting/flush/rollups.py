"""The rollups: additions to them, under the compare and set of a checkpoint.

What a transaction adds is a run of its own, so that two of them have no lock in common but that of a checkpoint.
"""

from collections.abc import Sequence
from typing import Any

from libs.domain.blocks import Block
from services.counting.flush.runs import add_run
from services.counting.journal.log import ROLLUPS
from services.counting.journal.position import Position

_ADVANCE = """
update counting.checkpoint set
    applied_seq = $4::bigint, applied_events = $5::integer, split_seq = case when $5 > 0 then $4 + 1 end
where log_id = $1 and consumer = $6 and applied_seq = $2
    and applied_events = $3
returning generation"""

_NOTE = """
insert into counting.flush_log (log_id, from_seq, from_events, to_seq, to_events, generation, events, cells)
values ($1, $2, $3, $4, $5, $6, $7, $8)"""


async def apply(
    connection: Any,
    log_id: int,
    start: Position,
    end: Position,
    blocks: Sequence[Block],
    statement_cells: int,
) -> bool:
    """Add what the events of a log between two positions amount to, in one transaction on an asyncpg connection.

    False, and nothing was written, when the checkpoint is not at `start`: another process has moved it.
    """
    async with connection.transaction():
        return await apply_within(connection, log_id, start, end, blocks, statement_cells)


async def apply_within(
    connection: Any,
    log_id: int,
    start: Position,
    end: Position,
    blocks: Sequence[Block],
    statement_cells: int,
) -> bool:
    """`apply` within a transaction of the caller's.

    A transaction inside it would be a savepoint, with an id of its own that no snapshot lists: replication, which
    finds changed blocks by the ids of transactions, would miss them (T003-48).
    """
    generation = await connection.fetchval(_ADVANCE, log_id, *start, *end, ROLLUPS)
    if generation is None:
        return False
    await add_run(connection, generation, blocks, statement_cells)
    events, cells = sum(block.events for block in blocks), sum(block.cells for block in blocks)
    await connection.execute(_NOTE, log_id, *start, *end, generation, events, cells)
    return True
