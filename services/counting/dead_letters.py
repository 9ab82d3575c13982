"""Dead letters: entries that could not be applied, kept with the reason until an operator decides."""

import uuid
from dataclasses import dataclass
from typing import Any

# The same entry may have come to grief twice, in the spools of two shards.
_SET_ASIDE = """
insert into dead_letter
    (request_id, partition, log_id, seq, received_at, events, request_hash, payload, reason)
values ($1, $2, $3, $4, to_timestamp($5::bigint / 1e6), $6, $7, $8, $9)
on conflict (request_id, partition) do nothing"""


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
