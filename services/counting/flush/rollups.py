"""The rollups: additions to `rollup_minute`, under the compare and set of a checkpoint.

Upserts lock in one order (checkpoint, minute rows ascending by key, flush log), so they never deadlock with each other.
A piece with new rows takes two statements, each in that order, and two transactions may then deadlock: Postgres ends
one of them, and a flush that it ends is made again by upserts alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.counting.flush.buffer import Mask, MinuteRows, pieces
from services.counting.journal.log import ROLLUPS
from services.counting.journal.position import Position

_ADVANCE = """
update counting.checkpoint set
    applied_seq = $4::bigint, applied_events = $5::integer, split_seq = case when $5 > 0 then $4 + 1 end
where log_id = $1 and consumer = $6 and applied_seq = $2
    and applied_events = $3
returning generation"""

# A column comes as one string, because asyncpg looks at each element of an array several times (ADR 8).
# Names have no control characters. If one had, the columns would differ in length, and a null would be refused.
# "old" is for those that go on with `on conflict`.
_INSERT_COUNTS = """
insert into counting.rollup_minute as old (generation, video_id, event_type, minute, count)
select $1, * from unnest(string_to_array($2, chr(31)), string_to_array($3, chr(31)),
    string_to_array($4, ',')::integer[], string_to_array($5, ',')::bigint[])"""

_ADD_COUNTS = f"""{_INSERT_COUNTS}
on conflict (video_id, event_type, minute, generation) do update set count = old.count + excluded.count"""

_INSERT_VALUES = """
insert into counting.rollup_minute as old
    (generation, video_id, event_type, minute, count, value_count, sum, min, max, m2)
select $1, * from unnest(string_to_array($2, chr(31)), string_to_array($3, chr(31)),
    string_to_array($4, ',')::integer[], string_to_array($5, ',')::bigint[], string_to_array($6, ',')::bigint[],
    string_to_array($7, ',')::float8[], string_to_array($8, ',', 'nan')::float8[],
    string_to_array($9, ',', 'nan')::float8[], string_to_array($10, ',')::float8[])"""

# M2 by the formula of Chan, Golub and LeVeque (1979).
_ADD_VALUES = f"""{_INSERT_VALUES}
on conflict (video_id, event_type, minute, generation) do update set
    count = old.count + excluded.count,
    value_count = old.value_count + excluded.value_count,
    sum = old.sum + excluded.sum,
    min = least(old.min, excluded.min),
    max = greatest(old.max, excluded.max),
    m2 = old.m2 + excluded.m2 + case
        when old.value_count = 0 or excluded.value_count = 0 then 0
        else counting.square_of(
                counting.mean_of(excluded.sum, excluded.value_count) - counting.mean_of(old.sum, old.value_count))
            * old.value_count * excluded.value_count / (old.value_count + excluded.value_count)
        end"""

_INSERT = (_INSERT_COUNTS, _INSERT_VALUES)
_ADD = (_ADD_COUNTS, _ADD_VALUES)

_NOTE = """
insert into counting.flush_log (log_id, from_seq, from_events, to_seq, to_events, generation, events, cells)
values ($1, $2, $3, $4, $5, $6, $7, $8)"""


_MIN_NEW_ROWS = 100
"""Fewer new rows than this are not worth a statement of their own."""


async def apply(
    connection: Any,
    log_id: int,
    start: Position,
    end: Position,
    rows: MinuteRows,
    statement_cells: int,
    is_new: Mask | None = None,
) -> bool:
    """Add what the events of a log between two positions amount to, in one transaction on an asyncpg connection.

    False, and nothing was written, when the checkpoint is not at `start`: another process has moved it.
    `is_new`, (n,): the rows that are not there yet. Raises UniqueViolationError when one of them is.
    """
    async with connection.transaction():
        return await apply_within(connection, log_id, start, end, rows, statement_cells, is_new)


async def apply_within(
    connection: Any,
    log_id: int,
    start: Position,
    end: Position,
    rows: MinuteRows,
    statement_cells: int,
    is_new: Mask | None = None,
) -> bool:
    """`apply` within a transaction of the caller's.

    A transaction inside it would be a savepoint, with an id of its own that no snapshot lists: replication, which
    finds changed rows by the ids of transactions, would miss them (T003-48).
    """
    generation = await connection.fetchval(_ADVANCE, log_id, *start, *end, ROLLUPS)
    if generation is None:
        return False
    await add_rows(connection, generation, rows, statement_cells, is_new)
    await connection.execute(_NOTE, log_id, *start, *end, generation, int(rows.cells.count.sum()), len(rows))
    return True


async def add_rows(
    connection: Any, generation: int, rows: MinuteRows, statement_cells: int, is_new: Mask | None = None
) -> None:
    """Add rows to a generation, within a transaction of the caller's, who knows that their events were never added.

    `is_new`, (n,): rows to insert without looking them up; raises UniqueViolationError when one of them is there.
    """
    for piece in pieces(rows, statement_cells):
        part = rows.take(piece)
        new = None if is_new is None else is_new[piece]
        if new is None or np.count_nonzero(new) < _MIN_NEW_ROWS:
            await _write(connection, _ADD, generation, part)
            continue
        await _write(connection, _INSERT, generation, part.where(new))
        if not new.all():
            await _write(connection, _ADD, generation, part.where(~new))


async def _write(connection: Any, statements: tuple[str, str], generation: int, rows: MinuteRows) -> None:
    """Execute one of two statements: that for rows without values, or that for rows which may have some."""
    for_counts, for_values = statements
    cells = rows.cells
    keys = (
        "\x1f".join(rows.video_id),
        "\x1f".join(rows.event_type),
        _written(cells.minute.tolist()),
        _written(cells.count.tolist()),
    )
    if cells.values is None or not cells.values.value_count.any():
        await connection.execute(for_counts, generation, *keys)
    else:
        columns = (_written(column.tolist()) for column in cells.values.columns())
        await connection.execute(for_values, generation, *keys, *columns)


def _written(numbers: Sequence[float]) -> str:
    """The numbers in the syntax of Postgres; Python writes every digit that a double needs."""
    return ",".join(map(repr, numbers))
