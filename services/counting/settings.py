"""Settings of the counting service: TALLY_COUNTING__…"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, model_validator

SERVER_ENDS_FIRST_S = 1.0
"""A flush is given up so long after the server should have ended its transaction."""
_RECOVERY = "TALLY_COUNTING__RECOVERY__"


class JournalSettings(BaseModel, frozen=True, extra="forbid"):
    """The group commit."""

    max_group_entries: int = Field(1_000, ge=1, le=10_000, description="entries in one insert")
    max_group_bytes: int = Field(4 * 1024 * 1024, ge=1, description="bytes of payload in one insert")
    max_waiting_entries: int = Field(
        20_000, ge=1, description="entries that may wait before more are refused"
    )
    max_waiting_bytes: int = Field(
        64 * 1024 * 1024, ge=1, description="bytes that may wait before more are refused"
    )
    insert_timeout_seconds: float = Field(
        2.5, gt=0, description="how long an insert may take before it is in doubt"
    )
    partitions_ahead_hours: int = Field(48, ge=24, description="how far ahead journal partitions are made")


class FlushSettings(BaseModel, frozen=True, extra="forbid"):
    """The way from the buffer to the rollups."""

    interval_seconds: float = Field(1.0, gt=0, le=30, description="time between two flushes")
    max_interval_seconds: float = Field(
        30.0, gt=0, le=300, description="longest time between two flushes, under load"
    )
    max_cells: int = Field(
        500_000,
        ge=1,
        description="cells in the buffer beyond which entries are refused; fewer where flushes are slow",
    )
    statement_cells: int = Field(5_000, ge=1, description="cells in one statement of a flush")
    merge_cells: int = Field(
        200_000,
        ge=1,
        description="cells of runs that one transaction merges, at most; fewer where that is slow",
    )
    timeout_seconds: float | None = Field(
        None,
        gt=0,
        description="how long a flush may take before it is in doubt; unset: a second more than a transaction may",
    )

    @model_validator(mode="after")
    def _intervals_fit(self) -> Self:
        if self.max_interval_seconds < self.interval_seconds:
            raise ValueError(
                f"TALLY_COUNTING__FLUSH__MAX_INTERVAL_SECONDS is {self.max_interval_seconds:g}, and must be at least "
                f"TALLY_COUNTING__FLUSH__INTERVAL_SECONDS, which is {self.interval_seconds:g}"
            )
        return self


class RecoverySettings(BaseModel, frozen=True, extra="forbid"):
    """Taking over from shards that died."""

    heartbeat_seconds: float = Field(1.0, gt=0, description="time between two heartbeats of a log")
    takeover_seconds: float = Field(
        10.0, gt=0, description="time without a heartbeat after which others take a log over"
    )
    piece_events: int = Field(100_000, ge=1, description="events that recovery applies in one transaction")
    statement_timeout_seconds: float = Field(
        3.0,
        gt=0,
        description="longest wait for a statement of upkeep and recovery; at most what a transaction may take",
    )
    transaction_timeout_seconds: float = Field(
        8.0, gt=0, description="longest transaction of a shard; below the takeover time"
    )

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        """A frozen shard loses its locks before its log is taken over, and a shard that is alive keeps its log."""
        statement, transaction = self.statement_timeout_seconds, self.transaction_timeout_seconds
        if transaction >= self.takeover_seconds:
            raise ValueError(
                f"{_RECOVERY}TRANSACTION_TIMEOUT_SECONDS is {transaction:g}, and must be below "
                f"{_RECOVERY}TAKEOVER_SECONDS, which is {self.takeover_seconds:g}: a frozen shard must have lost its "
                "locks by then"
            )
        if statement > transaction:
            raise ValueError(
                f"{_RECOVERY}STATEMENT_TIMEOUT_SECONDS is {statement:g}, and must be at most "
                f"{_RECOVERY}TRANSACTION_TIMEOUT_SECONDS, which is {transaction:g}"
            )
        if (longest := 2 * self.heartbeat_seconds + statement) > self.takeover_seconds:
            raise ValueError(
                f"twice {_RECOVERY}HEARTBEAT_SECONDS ({self.heartbeat_seconds:g}) and "
                f"{_RECOVERY}STATEMENT_TIMEOUT_SECONDS ({statement:g}) are {longest:g} s, and must be at most "
                f"{_RECOVERY}TAKEOVER_SECONDS, which is {self.takeover_seconds:g}: else other shards take the log of a "
                "shard that is well"
            )
        return self


class SpoolSettings(BaseModel, frozen=True, extra="forbid"):
    """Where entries wait while Postgres is unreachable."""

    enabled: bool = Field(
        True,
        description="keep entries on the shard's disk while Postgres is unreachable; otherwise callers wait until "
        "their deadline",
    )
    folder: Path | None = Field(
        None, description="where, for this shard alone and the same at each start; unset: in the data folder"
    )
    max_bytes: int = Field(
        1024**3, ge=1024**2, description="size of the spool beyond which entries are refused"
    )
    max_age_seconds: float = Field(
        14_400.0,
        gt=0,
        le=43_200,
        description="age of a spooled entry that makes the shard unready; far below the horizon",
    )
    drain_entries: int = Field(200, ge=1, le=10_000, description="spooled entries in one insert")
    drain_events: int = Field(10_000, ge=1, description="events of spooled entries in one insert")
    drain_seconds: float = Field(
        15.0, ge=0, description="how long a shard that stops goes on draining its spool"
    )


class GenerationSettings(BaseModel, frozen=True, extra="forbid"):
    """Generations of the rollups, and their hours, days and totals."""

    seal_seconds: float = Field(
        3_600.0, gt=0, description="age at which a generation with counts is sealed and the next one begins"
    )


class CountingSettings(BaseModel, frozen=True, extra="forbid"):
    """The counting service."""

    shard: str = Field("", description="name of this shard in the log table; unset: host name and pid")
    max_flush_lag_seconds: float = Field(
        30.0, gt=0, description="lag of the rollups that makes the shard unready"
    )
    journal: JournalSettings = JournalSettings()
    flush: FlushSettings = FlushSettings()
    recovery: RecoverySettings = RecoverySettings()
    spool: SpoolSettings = SpoolSettings()
    generations: GenerationSettings = GenerationSettings()

    @property
    def flush_timeout_seconds(self) -> float:
        """How long a flush may take before it is in doubt."""
        return self.flush.timeout_seconds or self.recovery.transaction_timeout_seconds + SERVER_ENDS_FIRST_S

    @model_validator(mode="after")
    def _server_ends_flushes_first(self) -> Self:
        """A flush that is given up while the server works on goes on to hold its locks."""
        timeout, recovery = self.flush.timeout_seconds, self.recovery
        longest = recovery.transaction_timeout_seconds
        if timeout is not None and not longest <= timeout <= recovery.takeover_seconds:
            raise ValueError(
                f"TALLY_COUNTING__FLUSH__TIMEOUT_SECONDS is {timeout:g}, and must be from "
                f"{_RECOVERY}TRANSACTION_TIMEOUT_SECONDS ({longest:g}) to {_RECOVERY}TAKEOVER_SECONDS "
                f"({recovery.takeover_seconds:g}), or unset"
            )
        return self
