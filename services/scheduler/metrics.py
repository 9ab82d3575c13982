"""The metrics of a scheduler."""

from collections.abc import Mapping
from enum import StrEnum

from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry


class EndReason(StrEnum):
    """Why a run ended otherwise than done."""

    CATCHUP = "catchup"
    """its window opened too long ago"""
    OVERLAP = "overlap"
    """earlier runs had not ended"""
    REQUEST = "request"
    """somebody cancelled it"""
    OUT_OF_TIME = "out_of_time"
    """its window closed too long ago"""


class Metrics:
    """The instruments of one scheduler."""

    def __init__(self, telemetry: Telemetry) -> None:
        meter = telemetry.meter
        self._triggers = catalogue.counter(meter, catalogue.SYNC_TRIGGERS)
        self._ends = catalogue.counter(meter, catalogue.SYNC_RUNS)
        self._bins = catalogue.counter(meter, catalogue.SYNC_BINS)
        self._members = catalogue.counter(meter, catalogue.SYNC_MEMBERS)
        self._units = catalogue.counter(meter, catalogue.QUOTA_UNITS)
        self._leases = catalogue.counter(meter, catalogue.SYNC_LEASES)
        self._lateness = catalogue.histogram(meter, catalogue.SYNC_LATENESS)
        self._slots = catalogue.counter(meter, catalogue.SYNC_SLOTS)
        self._items = catalogue.counter(meter, catalogue.SYNC_ITEMS)
        self._closings = catalogue.counter(meter, catalogue.QUOTA_CLOSINGS)
        self.planning = catalogue.histogram(meter, catalogue.SYNC_PLANNING_DURATION)

    def new_bg_job_triggered_metric(self, job: str, bins: int, members: int) -> None:
        """A run of a job was planned, of so many bins and members."""
        self._triggers.add(1, {"sync.job": job})
        self._bins.add(bins, {"sync.job": job})
        self._members.add(members, {"sync.job": job})

    def runs_ended(self, job: str, state: str, reason: EndReason | None = None, count: int = 1) -> None:
        """Runs of a job ended in this state, for a reason unless it is done."""
        self._ends.add(count, {"sync.job": job, "state": state, "reason": reason or ""})

    def paid(self, costs: Mapping[str, int]) -> None:
        """A batch was paid: so many units of each quota."""
        for quota, units in costs.items():
            self._units.add(units, {"quota": quota})

    def leased(self, job: str, late_seconds: float | None) -> None:
        """A slot was leased; `late_seconds` after it was due, if for the first time."""
        self._leases.add(1, {"sync.job": job})
        if late_seconds is not None:
            self._lateness.record(late_seconds, {"sync.job": job})

    def lease_ended(self, job: str, became: str) -> None:
        """A lease ended with its slot done, or given back."""
        self._slots.add(1, {"sync.job": job, "became": became})

    def recorded(self, job: str, outcome: str, count: int) -> None:
        """So many outcomes were recorded."""
        self._items.add(count, {"sync.job": job, "outcome": outcome})

    def refused(self, reason: str) -> None:
        """The other side refused a call for a quota."""
        self._closings.add(1, {"reason": reason})
