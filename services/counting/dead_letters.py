"""Dead letters: entries that could not be applied, kept with the reason until an operator decides."""

import uuid
from dataclasses import dataclass
from typing import Any

# One letter for each key. The same entry may have come to grief in two spools: the first stays. But the entry of the
# journal takes the place of one from a spool, even of one that was dropped: it is part of the journal that the rollups
# lack. (One that was replayed has no entry in the journal, and never will.)
_SET_ASIDE = """
insert into dead_letter
    (request_id, partition, log_id, seq, received_at, events, request_hash, payload, reason)
values ($1, $2, $3, $4, to_timestamp($5::bigint / 1e6), $6, $7, $8, $9)
on conflict (request_id, partition) do update set
    log_id = excluded.log_id, seq = excluded.seq, received_at = excluded.received_at, events = excluded.events,
    request_hash = excluded.request_hash, payload = excluded.payload, reason = excluded.reason,
    state = 'waiting', decided_at = null, note = ''
where dead_letter.log_id is null and dead_letter.state <> 'replayed' and excluded.log_id is not null"""


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
