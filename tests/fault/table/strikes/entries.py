"""An entry that takes longer than a transaction may."""

import asyncio
from collections import Counter

import asyncpg
import numpy as np

from libs.domain.minutes import MINUTE_US
from tally.client import Columns, TallyError
from tally.contract.rules import EARLIEST_EVENT_US
from tests.fault.table.ledger import Request
from tests.fault.table.requests import draw_key, new_id
from tests.fault.table.scene import Scene
from tests.support.reach import open_client
from tests.support.rollups import MINUTE

_MINUTES = 20_000
_SECONDS_PER_ROW = 0.001
"""All rows of the entry take two and a half times the 8 s of a transaction, and more."""
_PATIENCE_SECONDS = 240.0
_SLOW = f"""
create function slow() returns trigger language plpgsql as $$
begin
    if {MINUTE.replace("body", "new.body")} < {{end}} then perform pg_sleep({{seconds}} * new.cells); end if;
    return new;
end $$;
create trigger slow before insert on counting.rollup_block_1 for each row execute function slow()"""
_MEND = "drop trigger slow on counting.rollup_block_1; drop function slow()"
_IS_APPLIED = """
select seq <= applied_seq from counting.journal join counting.checkpoint using (log_id) where request_id = $1"""
_PARTS = "select count(*) from counting.flush_log where to_events > 0 and flushed_at >= $1"


async def send_large_entry(scene: Scene) -> None:
    """Very many minutes of one video, to a Postgres that is slow with just these."""
    first = EARLIEST_EVENT_US // MINUTE_US
    connection = await asyncpg.connect(scene.deployment.dsn)
    try:
        began = await connection.fetchval("select now()")
        await connection.execute(_SLOW.format(seconds=_SECONDS_PER_ROW, end=first + _MINUTES))
        scene.strike()
        request_id = await _send(scene, first)
        end = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while not await connection.fetchval(_IS_APPLIED, request_id):
            if asyncio.get_running_loop().time() > end:
                scene.expect(False, f"the entry was not applied within {_PATIENCE_SECONDS:g} s")
                break
            await asyncio.sleep(0.5)
        parts = await connection.fetchval(_PARTS, began)
        scene.note(f"applied in {parts + 1} parts")
        scene.expect(parts > 0, "the entry was applied at once, so nothing is shown")
    finally:
        await connection.execute(_MEND)
        await connection.close()


async def _send(scene: Scene, first_minute: int) -> str:
    """On a video that others count and read meanwhile. Its id is returned once it has a receipt."""
    video, _ = draw_key(scene.chance, scene.prefix)
    request = Request(new_id(), Counter({(video, "view"): _MINUTES}))
    scene.load.ledger.send(request)
    none = bytes(2 * _MINUTES)
    times = (np.arange(_MINUTES, dtype="<i8") + first_minute) * MINUTE_US
    columns = Columns((video,), ("view",), none, none, event_time_us=times.tobytes())
    async with open_client(scene.deployment.doors.door, timeout=10.0) as client:
        while True:
            try:
                receipt = await client.process_many(columns, request_id=request.request_id)
            except TallyError:
                await asyncio.sleep(0.5)
                continue
            scene.load.ledger.acknowledge(
                request, receipt.accepted_count, receipt.duplicate_count, receipt.durability
            )
            return request.request_id
