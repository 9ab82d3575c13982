"""The rows of quotas."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from libs.stores.transactions import transaction
from services.scheduler.wakeups import notify
from tally.contract.errors import InvalidRequest, Violation

_INSERT = """
insert into scheduler.quota (name, kind, limit_units, zone, protected_percent, protected_units, send_within_seconds,
    created_at, changed_at)
values ($1, 'units_per_day', $2, $3, $4, $5, $6, $7, $7)
on conflict (name) do nothing
returning name"""
_LOCK = "select zone from scheduler.quota where name = $1 for no key update"
_UPDATE = """
update scheduler.quota set limit_units = $2, protected_percent = $3, protected_units = $4, send_within_seconds = $5,
    changed_at = $6
where name = $1"""
_LIST = """
select * from scheduler.quota where name > $1 and ($3::text is null or name = $3) order by name limit $2"""
_USES = (
    "select quota, day, used, forced from scheduler.quota_use where quota = any($1) and day between $2 and $3"
)
_LIMITS = "select name, limit_units - protected_units as most_units from scheduler.quota"


@dataclass(frozen=True, slots=True)
class QuotaDefinition:
    """A quota of units a day, checked and with its defaults filled in."""

    name: str
    units: int
    zone: str
    protected_percent: int
    send_within_seconds: float

    @property
    def protected_units(self) -> int:
        """The share that only forced work may use, at least one unit."""
        return max(1, self.units * self.protected_percent // 100)


async def put_quota(pool: Any, quota: QuotaDefinition, now: datetime) -> bool:
    """Store a quota; whether it is new. Raises InvalidRequest when its zone would change."""
    async with transaction(pool) as connection:
        created = await connection.fetchval(
            _INSERT,
            quota.name,
            quota.units,
            quota.zone,
            quota.protected_percent,
            quota.protected_units,
            quota.send_within_seconds,
            now,
        )
        if created is None:
            zone = await connection.fetchval(_LOCK, quota.name)
            if zone != quota.zone:
                raise InvalidRequest(
                    [
                        Violation(
                            "quota.units_per_day.zone",
                            f"is {zone} for this quota and cannot be changed: what was paid is kept by its days. "
                            "Use another name",
                        )
                    ]
                )
            await connection.execute(
                _UPDATE,
                quota.name,
                quota.units,
                quota.protected_percent,
                quota.protected_units,
                quota.send_within_seconds,
                now,
            )
        await notify(connection)
    return created is not None


async def most_units(pool: Any) -> dict[str, int]:
    """How much of each quota a batch may cost at most."""
    return {row["name"]: row["most_units"] for row in await pool.fetch(_LIMITS)}


async def list_quotas(
    pool: Any, after: str, limit: int, now: datetime, name: str | None = None
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Quotas by name, from the one after `after` on, and what is used of them around now."""
    rows = await pool.fetch(_LIST, after, limit, name)
    days = now.date() - timedelta(days=1), now.date() + timedelta(days=1)
    return rows, await pool.fetch(_USES, [row["name"] for row in rows], *days)
