"""Settings of the query service: TALLY_QUERY__…"""

from pydantic import BaseModel, Field


class HotSettings(BaseModel, frozen=True, extra="forbid"):
    """Totals in Valkey."""

    max_age_seconds: float = Field(
        2.0, gt=0, le=60, description="age of `as_of` at which a cached total expires"
    )
    timeout_seconds: float = Field(
        0.1, gt=0, description="how long a command may take before Postgres is asked instead"
    )
    breaker_failures: int = Field(
        5, ge=1, description="commands that fail in a row until Valkey is left alone"
    )
    breaker_reset_seconds: float = Field(
        1.0, gt=0, description="how long Valkey is left alone before it is tried again"
    )


class HeavySettings(BaseModel, frozen=True, extra="forbid"):
    """Reads that find too much for the pool that most reads share; they have connections of their own."""

    min_cells: int = Field(
        50_000, ge=1, description="cells beyond which a read is heavy; a block counts as half full"
    )
    min_pending_events: int = Field(
        100_000, ge=1, description="events not in the rollups yet beyond which a strong read is heavy"
    )
    max_pending_events: int = Field(
        5_000_000, ge=1, description="events not in the rollups yet beyond which a strong read is refused"
    )
    connections: int = Field(2, ge=1, le=100, description="heavy reads at once, in one query service")
    max_waiting: int = Field(16, ge=0, description="heavy reads that may wait before more are refused")
    max_per_caller: int = Field(
        4, ge=1, description="heavy reads of one address, waiting or under way, before more are refused"
    )
    timeout_seconds: float = Field(
        10.0, gt=0, description="how long a heavy read may take, and how long wait"
    )


class AuditSettings(BaseModel, frozen=True, extra="forbid"):
    """Audits, which read every rollup; one at a time in each query service."""

    max_waiting: int = Field(4, ge=0, description="audits that may wait before more are refused")
    timeout_seconds: float = Field(60.0, gt=0, description="how long an audit may take, and how long wait")


class QuerySettings(BaseModel, frozen=True, extra="forbid"):
    """The query service."""

    primary_dsn: str | None = Field(
        None,
        description="postgresql://… of the primary, for strong reads, where TALLY_POSTGRES__DSN leads to a standby",
    )
    hot: HotSettings = HotSettings()
    heavy: HeavySettings = HeavySettings()
    audit: AuditSettings = AuditSettings()
