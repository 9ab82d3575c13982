"""The definition of a job as it is stored: with a job, and with each run that was planned with it."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel

from libs.domain import cadence as cadences
from libs.domain.cadence import Cadence


class Overlap(StrEnum):
    """What to do with a logical time while earlier runs of the cadence have not ended."""

    QUEUE = "queue"
    """runs queue, oldest first"""
    SKIP = "skip"
    """it gets no run"""
    BUFFER_ONE = "buffer_one"
    """one run waits; further ones are skipped"""


class Definition(BaseModel, frozen=True):
    """A job's definition, checked and with its defaults filled in."""

    name: str
    rationale: str
    sla_hours: int
    population: str
    where: dict[str, bool]
    handler: str
    preset: str
    """empty: the cadence is none of the presets"""
    period_hours: int
    bin_max: int
    offsets: tuple[int, ...]
    phase: int
    start_minutes: int
    length_minutes: int
    batch: int
    slot_size: int
    batch_seconds: int
    quotas: dict[str, int]
    catchup_hours: int
    allow_skew: bool
    overlap: Overlap = Overlap.QUEUE

    @property
    def cadence(self) -> Cadence:
        """How often."""
        return Cadence(self.period_hours, self.bin_max, self.offsets, self.phase)

    @property
    def length(self) -> timedelta:
        """The length of the window."""
        return timedelta(minutes=self.length_minutes)

    @property
    def batch_limit(self) -> timedelta:
        """The handler's time limit for a batch."""
        return timedelta(seconds=self.batch_seconds)

    def opens_at(self, logical_at: datetime) -> datetime:
        """When the window of a period opens."""
        return logical_at + timedelta(minutes=self.start_minutes)

    def first_period(self, at: datetime) -> datetime:
        """The start of the first period whose window opens at this time or later."""
        logical_at = cadences.period_start(self.cadence, at) - self.cadence.period
        while self.opens_at(logical_at) < at:
            logical_at += self.cadence.period
        return logical_at
