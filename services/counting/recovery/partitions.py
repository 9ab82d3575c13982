"""The journal's partitions, one for each day of request ids: created ahead of time, and dropped when they are empty."""

import datetime as dt
from typing import Any

from libs.domain.horizon import floor_ms_at
from libs.runtime.loop import Loop
from libs.stores.floor import LOCK_UPKEEP
from libs.stores.server_clock import read_clocks
from libs.telemetry.setup import Telemetry
from services.counting.recovery.empty_partitions import drop_empty_partitions
from services.counting.recovery.opening_floors import raise_opening_floors
from tally.contract.request_id import first_id_of, time_ms_of

_UPKEEP_SECONDS, _UPKEEP_RETRY_SECONDS, _UPKEEP_DEADLINE_SECONDS = 600.0, 5.0, 300.0
_DAY_MS = 86_400_000
_MOST_DAYS_BACK = 31
_CLUSTER = "select floor, journal_from from public.cluster"
_EXISTS = "select to_regclass('counting.' || $1) is not null"
# Attached, not created in place: `create … partition of` locks the whole journal behind a long reader.
_CREATE = "create table counting.{name} (like counting.journal including all)"
_ATTACH = (
    "alter table counting.journal attach partition counting.{name} for values from ('{first}') to ('{end}')"
)


def upkeep_loop(pool: Any, ahead_hours: int, telemetry: Telemetry) -> Loop:
    """Keeps the partitions that are needed, and drops old ones that are empty."""

    async def keep() -> None:
        await keep_partitions(pool, ahead_hours)
        await raise_opening_floors(pool)
        await drop_empty_partitions(pool)

    return Loop(
        "upkeep",
        keep,
        interval_seconds=_UPKEEP_SECONDS,
        retry_seconds=_UPKEEP_RETRY_SECONDS,
        deadline_seconds=_UPKEEP_DEADLINE_SECONDS,
        jitter=0.0,
        telemetry=telemetry,
    )


async def keep_partitions(pool: Any, ahead_hours: int) -> None:
    """Make the partitions that ids may need now and until `ahead_hours` ahead. Harmless to repeat.

    Ids come by Postgres's clock. While that may be wrong, only what it needs by itself is made, a few days; otherwise
    everything from the floor on, which lags behind after a time without shards. Raises what is in AWAY.
    """
    async with pool.acquire() as connection:
        reading = await read_clocks(connection)
        if reading is None:
            raise TimeoutError("Postgres did not tell its time within a second")
        row = await connection.fetchrow(_CLUSTER)
        now_ms = reading.postgres_us // 1000
        first_ms = floor_ms_at(now_ms)
        if reading.agrees:
            first_ms = min(first_ms, max(time_ms_of(row["floor"]), now_ms - _MOST_DAYS_BACK * _DAY_MS))
        first_ms = max(first_ms, time_ms_of(row["journal_from"]))
        for day in range(first_ms // _DAY_MS, (now_ms + ahead_hours * 3_600_000) // _DAY_MS + 1):
            async with connection.transaction():
                await connection.execute(LOCK_UPKEEP)
                await _make(connection, day)


async def _make(connection: Any, day: int) -> None:
    date = dt.datetime.fromtimestamp(day * 86_400, tz=dt.UTC)
    name = f"journal_{date:%Y_%m_%d}"
    if await connection.fetchval(_EXISTS, name):
        return
    await connection.execute(_CREATE.format(name=name))
    first, end = first_id_of(day * _DAY_MS), first_id_of((day + 1) * _DAY_MS)
    await connection.execute(_ATTACH.format(name=name, first=first, end=end))
