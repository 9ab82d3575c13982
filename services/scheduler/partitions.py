"""The partitions of `sync_attempt`, one for each day of runs. Planning attaches the partition of its day first."""

from datetime import date, timedelta
from typing import Any

# Any constant number will do; it keeps two schedulers apart.
_LOCK = "select pg_advisory_xact_lock(7305803)"
_EXISTS = "select to_regclass($1) is not null"
# Attached, not created in place: `create … partition of` locks the whole table behind a long reader.
_CREATE = "create table {name} (like scheduler.sync_attempt including all)"
_ATTACH = (
    "alter table scheduler.sync_attempt attach partition {name} for values from ('{first}') to ('{end}')"
)


class Partitions:
    """Attaches partitions; knows those that it has seen."""

    def __init__(self) -> None:
        self._known: set[date] = set()

    def has(self, day: date) -> bool:
        """Whether the partition of a day is known to be there."""
        return day in self._known

    async def attach(self, pool: Any, day: date) -> None:
        """Make sure that a day has its partition, in a transaction of its own."""
        if day in self._known:
            return
        name = f"scheduler.sync_attempt_{day:%Y_%m_%d}"
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK)
            if not await connection.fetchval(_EXISTS, name):
                await connection.execute(_CREATE.format(name=name))
                await connection.execute(_ATTACH.format(name=name, first=day, end=day + timedelta(days=1)))
        self._known.add(day)
