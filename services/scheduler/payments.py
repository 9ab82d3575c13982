"""Payments: a batch pays all its quotas or none, in the transaction that leases or reports (R000-06, R000-07)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from libs.domain.quota_day import RESET_MARGIN, charged_days
from services.scheduler.allowance import Limit, Use, allows, closing_after, payable_after

_QUOTAS = """
select name, limit_units, protected_units, zone, send_within_seconds, closed_until
from scheduler.quota where $1::text[] is null or name = any($1) order by name"""
_USES = "select quota, day, used, forced from scheduler.quota_use where day between $1 and $2"
_OPEN_DAYS = """
insert into scheduler.quota_use (quota, day)
select quota, day from unnest($1::text[], $2::date[]) as due (quota, day) order by quota, day
on conflict do nothing"""
_LOCK_DAYS = """
select use.quota, use.day, use.used, use.forced
from scheduler.quota_use as use join unnest($1::text[], $2::date[]) as due (quota, day) using (quota, day)
order by use.quota, use.day for no key update of use"""
_PAY = """
update scheduler.quota_use as use set used = use.used + case when $4 then 0 else due.units end,
    forced = use.forced + case when $4 then due.units else 0 end
from unnest($1::text[], $2::date[], $3::bigint[]) as due (quota, day, units)
where use.quota = due.quota and use.day = due.day"""
_LOCK_QUOTAS = """
select name, zone, closed_until, closed_day, closed_times from scheduler.quota
where name = any($1) order by name for no key update"""
_CLOSE = """
update scheduler.quota set closed_until = $2, closed_reason = $3, closed_day = $4, closed_times = $5
where name = $1"""

_MISSING_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Payment:
    """A batch was paid, and may be sent for so long; or it was not, and can be at `payable_at`, at the earliest."""

    send_within_seconds: float = 0.0
    payable_at: datetime | None = None

    @property
    def is_paid(self) -> bool:
        """Whether it was."""
        return self.payable_at is None


class Payments:
    """Pays batches, gives payments back, and closes quotas."""

    def __init__(self, send_within_seconds: float) -> None:
        """`send_within_seconds`: for batches that cost nothing."""
        self._send_within_seconds = send_within_seconds

    async def pay(
        self, connection: Any, costs: Mapping[str, int], now: datetime, *, forced: bool = False
    ) -> Payment:
        """Pay a batch, from the protected share too if it is forced. The caller holds its slot's row."""
        limits = await _read_limits(connection, list(costs))
        if len(limits) < len(costs):  # it was deleted by hand
            return Payment(payable_at=now + timedelta(seconds=_MISSING_SECONDS))
        closed = [limit.closed_until for limit in limits if limit.closed_until and limit.closed_until > now]
        if closed:
            return Payment(payable_at=max(closed))
        due = [(limit, day) for limit in limits for day in charged_days(now, limit.zone)]
        uses = await _lock_uses(connection, due)
        short = [
            payable_after(day, limit.zone)
            for limit, day in due
            if not allows(limit, uses[limit.name, day], costs[limit.name], forced=forced)
        ]
        if short:
            return Payment(payable_at=max(short))
        if due:
            await connection.execute(
                _PAY,
                [limit.name for limit, _ in due],
                [day for _, day in due],
                [costs[limit.name] for limit, _ in due],
                forced,
            )
        return Payment(self.send_within(limits))

    async def give_back(
        self, connection: Any, costs: Mapping[str, int], paid_at: datetime, *, forced: bool = False
    ) -> None:
        """Undo the payment of a batch for which no call was made (R000-10). The caller holds its slot's row."""
        limits = await _read_limits(connection, list(costs))
        due = [(limit, day) for limit in limits for day in charged_days(paid_at, limit.zone)]
        if due:
            await _lock_uses(connection, due)
            await connection.execute(
                _PAY,
                [limit.name for limit, _ in due],
                [day for _, day in due],
                [-costs[limit.name] for limit, _ in due],
                forced,
            )

    async def close_used_up(
        self, connection: Any, names: Sequence[str], paid_at: datetime, now: datetime, reason: str
    ) -> datetime:
        """Close quotas that the other side calls used up; when the batch may be paid again (R000-09)."""
        until = now
        for row in await connection.fetch(_LOCK_QUOTAS, list(names)):
            closing = closing_after(
                paid_at, now, ZoneInfo(row["zone"]), row["closed_day"], row["closed_times"]
            )
            if closing is not None:
                later = max(closing.until, row["closed_until"] or now)
                await connection.execute(_CLOSE, row["name"], later, reason, closing.day, closing.times)
                until = max(until, later)
        return until

    async def close_for(
        self, connection: Any, names: Sequence[str], seconds: float, now: datetime, reason: str
    ) -> datetime:
        """Close quotas for a while, as the other side asks; until when."""
        until = now + timedelta(seconds=seconds)
        for row in await connection.fetch(_LOCK_QUOTAS, list(names)):
            later = max(until, row["closed_until"] or now)
            await connection.execute(
                _CLOSE, row["name"], later, reason, row["closed_day"], row["closed_times"]
            )
            until = max(until, later)
        return until

    def send_within(self, limits: Sequence[Limit]) -> float:
        """How long a permit of these quotas is good (R000-08)."""
        return min((limit.send_within_seconds for limit in limits), default=self._send_within_seconds)

    async def send_within_of(self, connection: Any, costs: Mapping[str, int]) -> float:
        """The same for the quotas that a batch has paid."""
        return self.send_within(await _read_limits(connection, list(costs)))


class Budget:
    """All quotas and what is used of them, at a moment: a hint for choosing a slot to try. Nothing is locked."""

    def __init__(self, limits: Sequence[Limit], uses: Mapping[tuple[str, date], Use], now: datetime) -> None:
        self._limits = {limit.name: limit for limit in limits}
        self._uses = uses
        self._now = now

    def affords(self, costs: Mapping[str, int], *, forced: bool = False) -> bool:
        """Whether a batch that costs this could be paid, from the protected share too if it is forced."""
        return all(self._affords(name, units, forced=forced) for name, units in costs.items())

    def _affords(self, name: str, units: int, *, forced: bool) -> bool:
        limit = self._limits.get(name)
        if limit is None or (limit.closed_until is not None and limit.closed_until > self._now):
            return False
        return all(
            allows(limit, self._uses.get((name, day), Use()), units, forced=forced)
            for day in charged_days(self._now, limit.zone)
        )


async def read_budget(connection: Any, now: datetime) -> Budget:
    """The budget now, over an asyncpg connection or pool."""
    limits = await _read_limits(connection, None)
    if not limits:
        return Budget([], {}, now)
    # Whatever the zones: a day of any of them that a call now is charged to is near that of UTC.
    around = timedelta(days=1) + RESET_MARGIN
    rows = await connection.fetch(_USES, (now - around).date(), (now + around).date())
    return Budget(limits, {(row["quota"], row["day"]): Use(row["used"], row["forced"]) for row in rows}, now)


async def _read_limits(connection: Any, names: Sequence[str] | None) -> list[Limit]:
    if names is not None and not names:
        return []
    return [
        Limit(
            row["name"],
            row["limit_units"],
            row["protected_units"],
            ZoneInfo(row["zone"]),
            row["send_within_seconds"],
            row["closed_until"],
        )
        for row in await connection.fetch(_QUOTAS, names)
    ]


async def _lock_uses(connection: Any, due: Sequence[tuple[Limit, date]]) -> dict[tuple[str, date], Use]:
    """The rows of these quotas and days, locked in one order; those that are missing are made."""
    names, days = [limit.name for limit, _ in due], [day for _, day in due]
    if not due:
        return {}
    rows = await connection.fetch(_LOCK_DAYS, names, days)
    if len(rows) < len(due):
        await connection.execute(_OPEN_DAYS, names, days)
        rows = await connection.fetch(_LOCK_DAYS, names, days)
    return {(row["quota"], row["day"]): Use(row["used"], row["forced"]) for row in rows}
