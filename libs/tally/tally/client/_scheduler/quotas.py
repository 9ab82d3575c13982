"""Quotas: limits of external apis, which several jobs may share."""

from dataclasses import dataclass
from datetime import datetime

from tally.client._checks.times import from_timestamp
from tally.scheduler.v1 import job_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """So many units in each day of a time zone.

    `zone`: an IANA name; its midnight is the reset. `protected_percent`: the share that forced work alone may use, and
    at least one unit; None is the default, 10. `send_within_seconds`: how long after its payment a batch may be sent;
    0 is the default, 10.
    """

    name: str
    units_per_day: int
    zone: str
    protected_percent: int | None = None
    send_within_seconds: float = 0.0

    def to_message(self) -> pb.Quota:
        return pb.Quota(
            name=self.name,
            units_per_day=pb.UnitsPerDay(limit=self.units_per_day, zone=self.zone),
            protected_percent=self.protected_percent,
            send_within_seconds=self.send_within_seconds,
        )

    @classmethod
    def from_message(cls, message: pb.Quota) -> "Quota":
        return cls(
            name=message.name,
            units_per_day=message.units_per_day.limit,
            zone=message.units_per_day.zone,
            protected_percent=message.protected_percent if message.HasField("protected_percent") else None,
            send_within_seconds=message.send_within_seconds,
        )


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """A quota and how much of it is used.

    `day`: the current one in its zone, as in `2026-03-08`. `used_units`: paid for this day, `forced_units` of them by
    forced work. `protected_units`: for forced work alone. `closed_until_time`: nothing is paid before, because the
    other side refused calls; None when the quota is open.
    """

    quota: Quota
    day: str
    used_units: int
    forced_units: int
    protected_units: int
    reset_time: datetime
    closed_until_time: datetime | None
    closed_reason: str

    @classmethod
    def from_message(cls, message: pb.QuotaStatus) -> "QuotaStatus":
        return cls(
            quota=Quota.from_message(message.quota),
            day=message.day,
            used_units=message.used_units,
            forced_units=message.forced_units,
            protected_units=message.protected_units,
            reset_time=from_timestamp(message.reset_time),
            closed_until_time=from_timestamp(message.closed_until_time)
            if message.HasField("closed_until_time")
            else None,
            closed_reason=message.closed_reason,
        )
