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


class QuerySettings(BaseModel, frozen=True, extra="forbid"):
    """The query service."""

    hot: HotSettings = HotSettings()
