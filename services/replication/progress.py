"""Transfers: incoming data, their progress and cost. For display only."""

import uuid
from typing import Any

_BEGIN = """
insert into replication.transfer (id, device, strategy, phase, rows_total) values ($1, $2, $3, $4, $5)
on conflict (id) do update set phase = excluded.phase, error = '', updated_at = now()"""
_OPEN = """
select id from replication.transfer where device = $1 and strategy = $2 and phase = $3
order by begun_at desc limit 1"""
_ADD = """
update replication.transfer set
    phase = $2, rows_done = rows_done + $3, bytes_done = bytes_done + $4, rows_again = rows_again + $5,
    rows_total = greatest(rows_total, rows_done + $3), updated_at = now()
where id = $1"""
_END = "update replication.transfer set phase = $2, error = $3, updated_at = now() where id = $1"
_LIST = """
select id, device, strategy, location, phase, rows_done, rows_total, bytes_done, rows_again, error, begun_at, updated_at
from replication.transfer order by begun_at desc, id limit $1"""
_PRUNE = """
delete from replication.transfer where phase in ('done', 'failed') and updated_at < now() - interval '7 days'"""

RECEIVING, FETCHING, IMPORTING, LOADING = "receiving", "fetching", "importing", "loading"
DONE, FAILED = "done", "failed"


async def begin_transfer(
    connection: Any, transfer: uuid.UUID, device: uuid.UUID, strategy: str, phase: str, rows: int
) -> None:
    """A transfer begins or continues."""
    await connection.execute(_BEGIN, transfer, device, strategy, phase, rows)


async def find_open(connection: Any, device: uuid.UUID, strategy: str, phase: str) -> uuid.UUID | None:
    """The last transfer of that kind that is in that phase."""
    found: uuid.UUID | None = await connection.fetchval(_OPEN, device, strategy, phase)
    return found


async def add_progress(
    connection: Any, transfer: uuid.UUID, phase: str, *, rows: int = 0, size: int = 0, again: int = 0
) -> None:
    """So much more is here. `again`: rows that were here before."""
    await connection.execute(_ADD, transfer, phase, rows, size, again)


async def end_transfer(connection: Any, transfer: uuid.UUID, error: str = "") -> None:
    """It is done, or has failed with an error."""
    await connection.execute(_END, transfer, FAILED if error else DONE, error)


async def list_transfers(pool: Any, limit: int) -> list[Any]:
    """The latest ones, as rows of the table."""
    rows: list[Any] = await pool.fetch(_LIST, limit)
    return rows


async def prune_transfers(pool: Any) -> None:
    """Forget those that ended a week ago."""
    await pool.execute(_PRUNE)
