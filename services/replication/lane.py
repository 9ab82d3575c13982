"""The receiver's end of a lane in the database: who holds it, and which frame is the next one.

A holder has a lease by Postgres's clock, and each stream a number. A frame is applied only as the next of the stream
in force, in the transaction that applies it: a holder that was frozen, or is held up on the network, does no harm.
The holder's id counts as well, because a database that is restored gives the numbers of its streams out again.
"""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from services.replication.hashing import Sums, sums_of
from services.replication.rows import MODEL, NIL, START, Place
from tally.contract.errors import StaleFrame

_CREATE = "insert into replication.lane (device, model) values ($1, $2) on conflict do nothing"
_TAKE = """
update replication.lane set
    stream = stream + 1, frame = 0, holder = $3, lease_until = clock_timestamp() + make_interval(secs => $4)
where device = $1 and model = $2 and (holder = $3 or lease_until < clock_timestamp()) and data_losses <= $5
returning stream"""
_RENEW = """
update replication.lane set lease_until = clock_timestamp() + make_interval(secs => $5)
where device = $1 and model = $2 and stream = $3 and holder = $4"""
_RELEASE = """
update replication.lane set lease_until = '-infinity'
where device = $1 and model = $2 and stream = $3 and holder = $4"""
_ADVANCE = """
update replication.lane set frame = $4, lease_until = clock_timestamp() + make_interval(secs => $5)
where device = $1 and model = $2 and stream = $3 and frame = $4 - 1 and holder = $6"""
_LOSE_DATA = """
update replication.lane set data_losses = data_losses + 1 where device = $1 and model = $2 returning data_losses"""
_COMPLETE = """
update replication.lane set data_losses = 0 where device = $1 and model = $2 and data_losses > 0"""
_SET_PROBLEM = """
update replication.lane set problem = $3, problem_at = case $3 when '' then null else now() end
where device = $1 and model = $2 and problem <> $3"""
_HOLD = """
select from replication.lane where device = $1 and model = $2 and stream = $3 and holder = $4 for update"""
_WATERMARK = """
select epoch, snapshot::text as snapshot, word, as_of, target::text as target, target_as_of,
    cursor_changed::text::int8 as cursor_changed, cursor_location, cursor_key,
    received_rows, received_high, received_low
from replication.watermark where device = $1 and model = $2"""
_BEHIND = "select location from replication.peer_state where device = $1 and state = 'behind'"
_NOTHING_DONE = "UPDATE 0"
RETRIES = 3
"""So often a lane asks again for what did not arrive as it was sent. Then it stops."""


@dataclass(frozen=True, slots=True)
class Position:
    """The watermark of a (device, model) in this region. `watermark` empty: no rows yet."""

    epoch: int = 0
    watermark: str = ""
    word: int = 0
    target: str = ""
    target_as_of: Any = None
    place: Place = START
    received: Sums | None = None
    behind: tuple[uuid.UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """A lane that this replica holds, by the number of its stream."""

    device: uuid.UUID
    holder: uuid.UUID
    stream: int
    lease_seconds: float
    model: str = MODEL


async def take_lane(
    pool: Any, device: uuid.UUID, holder: uuid.UUID, lease_seconds: float, model: str = MODEL
) -> tuple[Held, Position] | None:
    """Begin a stream of a lane, and read how far it is; None: another replica holds it, or it has stopped.

    Frames of earlier streams are refused from here on, so the position cannot move under the new one.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_CREATE, device, model)
        stream = await connection.fetchval(_TAKE, device, model, holder, lease_seconds, RETRIES)
        if stream is None:
            return None
        held = Held(device, holder, stream, lease_seconds, model)
        return held, await _read_position(connection, held)


async def renew_lane(pool: Any, held: Held) -> None:
    """Keep a lane. Raises StaleFrame when it was taken meanwhile."""
    status = await pool.execute(_RENEW, held.device, held.model, held.stream, held.holder, held.lease_seconds)
    if status == _NOTHING_DONE:
        raise _taken(held)


async def keep_lane(pool: Any, held: Held) -> None:
    """Renew a lane again and again. Raises StaleFrame when it was taken meanwhile."""
    while True:
        await asyncio.sleep(held.lease_seconds / 3)
        await renew_lane(pool, held)


async def release_lane(pool: Any, held: Held) -> None:
    """Let another replica have a lane at once."""
    await pool.execute(_RELEASE, held.device, held.model, held.stream, held.holder)


async def advance_lane(connection: Any, held: Held, frame: int) -> None:
    """In the transaction that applies a frame: it is the next one of the stream in force. Raises StaleFrame."""
    status = await connection.execute(
        _ADVANCE, held.device, held.model, held.stream, frame, held.lease_seconds, held.holder
    )
    if status == _NOTHING_DONE:
        raise StaleFrame(
            f"frame {frame} of stream {held.stream} is not the next one; the lane begins a new stream"
        )


async def hold_lane(connection: Any, held: Held) -> None:
    """In a transaction that changes what a lane has brought: its stream is in force. Raises StaleFrame."""
    if await connection.fetchrow(_HOLD, held.device, held.model, held.stream, held.holder) is None:
        raise _taken(held)


async def count_data_loss(pool: Any, device: uuid.UUID, model: str) -> bool:
    """The received data differ from the sent data; false: this happened too often, and the lane stops."""
    losses: int = await pool.fetchval(_LOSE_DATA, device, model)
    return losses <= RETRIES


async def restart_lane(connection: Any, held: Held) -> None:
    """Something was received whole: the lane has all its retries again."""
    await connection.execute(_COMPLETE, held.device, held.model)


async def set_problem(pool: Any, device: uuid.UUID, model: str, problem: str) -> None:
    """Why nothing comes by a lane; empty: all is well."""
    await pool.execute(_SET_PROBLEM, device, model, problem)


async def _read_position(connection: Any, held: Held) -> Position:
    """The watermark of the rows of a lane in this region."""
    device = held.device
    row = await connection.fetchrow(_WATERMARK, device, held.model)
    if row is None:
        return Position()
    behind = await connection.fetch(_BEHIND, device) if held.model == MODEL else []
    place = START
    if row["cursor_location"] is not None:
        place = Place(row["cursor_changed"], row["cursor_location"], row["cursor_key"] or NIL)
    return Position(
        row["epoch"],
        row["snapshot"],
        row["word"],
        row["target"] or "",
        row["target_as_of"],
        place,
        sums_of(row["received_rows"], row["received_high"], row["received_low"]),
        tuple(each["location"] for each in behind),
    )


def _taken(held: Held) -> StaleFrame:
    return StaleFrame(
        f"stream {held.stream} of the lane is not in force any more: another replica has taken it"
    )
