"""Closing words: a random number for each watermark, committed by the owner before the watermark is sent.

A peer whose last word the owner does not know has rows of a life of the database that is no more: a volume was put
back, or a dump loaded. Nothing else would show that (T003-28). So what begins a pass, and each page of a load, carries
a word as well, committed after the rows were read: the last word is newer than every row that the peer has.
"""

import secrets
import uuid
from typing import Any

from services.replication.epoch import Life, check_life

_KEEP = """
insert into replication.closing_word (peer, model, epoch, watermark, word)
values ($1, $2, $3, $4::text::pg_snapshot, $5)"""
_AGE = """
select extract(epoch from now() - made_at)::float8 from replication.closing_word
where peer = $1 and model = $2 and epoch = $3 and word = $4"""
# Everything before the word that the peer has committed. A peer that is restored to before comes with one of these,
# and loads a snapshot.
_FORGET = """
delete from replication.closing_word as old using replication.closing_word as acked
where acked.peer = $1 and acked.model = $2 and acked.word = $3
    and old.peer = $1 and old.model = $2 and old.number < acked.number"""
_ACK = """
insert into replication.peer_ack (peer, model, epoch, watermark, word)
values ($1, $2, $3, $4::text::pg_snapshot, $5)
on conflict (peer, model) do update set
    epoch = excluded.epoch, watermark = excluded.watermark, word = excluded.word, acked_at = now()"""
_WORD_BITS = 63


async def make_word(pool: Any, peer: uuid.UUID, model: str, life: Life, watermark: str) -> int:
    """A new word for a watermark. It is committed when this returns. Raises PeerMismatch."""
    word = secrets.randbits(_WORD_BITS)
    async with pool.acquire() as connection, connection.transaction():
        await check_life(connection, life, watermark)
        await connection.execute(_KEEP, peer, model, life.epoch, watermark, word)
    return word


async def age_of_word(pool: Any, peer: uuid.UUID, model: str, epoch: int, word: int) -> float | None:
    """How many seconds ago this owner gave that word out; None: it never did, in this epoch."""
    seconds: float | None = await pool.fetchval(_AGE, peer, model, epoch, word)
    return seconds


async def acknowledge(pool: Any, peer: uuid.UUID, model: str, epoch: int, watermark: str, word: int) -> None:
    """The peer has committed a watermark: words before it are of no use any more."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_ACK, peer, model, epoch, watermark, word)
        await connection.execute(_FORGET, peer, model, word)
