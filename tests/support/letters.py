"""Dead letters for tests: entries that came to grief in the journal, in a spool, or on the way to the rollups."""

import uuid
from typing import Any

from libs.stores.postgres import PostgresSettings
from services.counting.dead_letters.decisions import Decisions
from services.counting.dead_letters.letters import DeadLetter, Key, set_aside
from services.counting.settings import FlushSettings
from tally.contract.request_id import make_request_id, time_ms_of
from tests.support.entries import Counts, as_entry, cut_request
from tests.support.eventually import eventually
from tests.support.shards import FAST, open_shard, send

REASON = "came to grief in a test"
RECEIVED_AT_US = 1_700_000_000_000_000


def open_decisions(dsn: str) -> Decisions:
    """As each shard has them."""
    return Decisions(dsn, PostgresSettings(), FAST, FlushSettings())


async def old_id(connection: Any) -> uuid.UUID:
    """A request id that was just above the floor when its day was new in the journal, and is below it now."""
    floor = await connection.fetchval("select floor from public.cluster")
    await connection.execute(
        "with raised as (update public.cluster set floor = $1) update counting.log set floor = $1 where state = 'open'",
        make_request_id(time_ms_of(floor) + 2),
    )
    return make_request_id(time_ms_of(floor) + 1)


async def bury_spooled(connection: Any, counts: Counts, request_id: uuid.UUID) -> list[Key]:
    """Set a request's entries aside as a spool does: they were never in the journal."""
    for sent in cut_request(counts, request_id):
        entry = as_entry(sent)
        await set_aside(
            connection,
            DeadLetter(
                request_id=entry.request_id,
                partition=entry.partition,
                log_id=None,
                seq=None,
                received_at_us=RECEIVED_AT_US,
                event_count=len(entry.events),
                request_hash=entry.request_hash,
                payload=entry.payload,
                reason=REASON,
            ),
        )
    return await waiting(connection)


async def refuse(connection: Any, video: str) -> None:
    """Let the rollups refuse a video, as Postgres refuses a value that it cannot hold."""
    await connection.execute(
        f"alter table counting.rollup_block add constraint odd check (position('{video}'::bytea in body) = 0)"
    )


async def refuse_no_more(connection: Any) -> None:
    """Take what they came to grief of away."""
    await connection.execute("alter table counting.rollup_block drop constraint odd")


async def bury_journaled(
    connection: Any, dsn: str, counts: Counts, request_id: uuid.UUID | None = None
) -> list[Key]:
    """Journal a request of one video that the rollups refuse, and then take the reason away."""
    [video] = {video for video, _ in counts}
    await refuse(connection, video)
    async with open_shard(dsn, name="buries") as shard:
        await send(shard, counts, request_id)

        async def is_set_aside() -> bool:
            return bool(await waiting(connection))

        await eventually(is_set_aside)
    await refuse_no_more(connection)
    return await waiting(connection)


async def waiting(connection: Any) -> list[Key]:
    """The letters that nobody has decided."""
    rows = await connection.fetch(
        "select request_id, partition from counting.dead_letter where state = 'waiting' order by 1, 2"
    )
    return [Key(row["request_id"], row["partition"]) for row in rows]
