"""Dead letters: entries that could not be applied, kept with the reason until an operator decides."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from tally.contract.errors import NotFound

# One letter for each key. If two spools reject the same entry, the first row is kept. But the entry of the
# journal takes the place of one from a spool, even of one that was dropped: it is part of the journal that the rollups
# lack. (One that was replayed has no entry in the journal, and never will.)
_SET_ASIDE = """
insert into counting.dead_letter
    (request_id, partition, log_id, seq, received_at, events, request_hash, payload, reason)
values ($1, $2, $3, $4, to_timestamp($5::bigint / 1e6), $6, $7, $8, $9)
on conflict (request_id, partition) do update set
    log_id = excluded.log_id, seq = excluded.seq, received_at = excluded.received_at, events = excluded.events,
    request_hash = excluded.request_hash, payload = excluded.payload, reason = excluded.reason,
    state = 'waiting', decided_at = null, note = ''
where dead_letter.log_id is null and dead_letter.replayed_events = 0 and excluded.log_id is not null"""

_COLUMNS = """
request_id, partition, log_id, seq, events, reason, state, note, received_at, created_at, decided_at,
    substring(payload for 256) as beginning"""
_IN_ORDER = """
and (created_at, request_id, partition) > (coalesce($1::timestamptz, '-infinity'), $2::uuid, $3::smallint)
order by created_at, request_id, partition limit $4"""
_LIST = f"select {_COLUMNS} from counting.dead_letter where true {_IN_ORDER}"
_LIST_IN_STATE = f"select {_COLUMNS} from counting.dead_letter where state = $5 {_IN_ORDER}"
_READ = f"""
select {_COLUMNS}, payload, request_hash, replayed_events,
    (extract(epoch from received_at) * 1000000)::bigint as received_at_us
from counting.dead_letter where request_id = $1 and partition = $2"""
_LOCK = f"{_READ} for update"
_COUNT_WAITING = "select count(*) from counting.dead_letter where state = 'waiting'"


class State(StrEnum):
    """The outcome of a letter."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Key:
    """The key of the letter's entry. As text: the request id, a slash, the partition."""

    request_id: uuid.UUID
    partition: int

    def __str__(self) -> str:
        return f"{self.request_id}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in the list of letters: all letters after it are newer."""

    created_at: datetime | None = None
    """None: before all of them"""
    key: Key = Key(uuid.UUID(int=0), 0)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry as it is set aside. `log_id` and `seq` are None when it was never in the journal."""

    request_id: uuid.UUID
    partition: int
    log_id: int | None
    seq: int | None
    received_at_us: int
    event_count: int
    request_hash: int
    payload: bytes
    reason: str


async def set_aside(connection: Any, letter: DeadLetter) -> None:
    """Keep an entry that cannot be applied, over an asyncpg connection."""
    await connection.execute(
        _SET_ASIDE,
        letter.request_id,
        letter.partition,
        letter.log_id,
        letter.seq,
        letter.received_at_us,
        letter.event_count,
        letter.request_hash,
        letter.payload,
        letter.reason,
    )


async def list_letters(connection: Any, state: State | None, after: Cursor, limit: int) -> list[Any]:
    """Rows of the letters in a state, or in any, oldest first.

    `beginning` is that of the payload: enough to tell the first video.
    """
    cursor = (after.created_at, after.key.request_id, after.key.partition)
    if state is None:
        return list(await connection.fetch(_LIST, *cursor, limit))
    return list(await connection.fetch(_LIST_IN_STATE, *cursor, limit, state))


async def read_letter(connection: Any, key: Key) -> Any:
    """The row of one letter, with its payload; None when there is none."""
    return await connection.fetchrow(_READ, key.request_id, key.partition)


async def lock_letter(connection: Any, key: Key) -> Any:
    """The same, for a decision within a transaction."""
    return await connection.fetchrow(_LOCK, key.request_id, key.partition)


def not_found(key: Key) -> NotFound:
    """The error for an entry that is not a dead letter."""
    return NotFound(f"there is no dead letter {key}. `tally dead-letters list --state all` lists them")


async def count_waiting(connection: Any) -> int:
    """The number of undecided letters."""
    return int(await connection.fetchval(_COUNT_WAITING))
