"""Settings of the catalog: TALLY_CATALOG__…"""

from typing import Literal

from pydantic import BaseModel, Field

Part = Literal["details", "lists", "sets"]
"""Hashes with details and sort values; lists; sets, sorted sets of sorts, and trackers."""


class RightsSettings(BaseModel, frozen=True, extra="forbid"):
    """Who may see what."""

    default_allow: bool = Field(
        True, description="whether a resource is shown to viewers that no rule matches"
    )
    max_staleness_seconds: float = Field(
        60.0, ge=1, le=3600, description="how long a replica answers without news from Postgres"
    )
    clock_drift_ppm: float = Field(
        500.0, ge=0, le=100_000, description="how fast two clocks may part, in parts per million"
    )
    may_look_past: bool = Field(
        False,
        description="whether a find may show what is hidden, or the rights of another time; each use is logged",
    )


class FeedSettings(BaseModel, frozen=True, extra="forbid"):
    """How a replica follows the changes."""

    interval_seconds: float = Field(
        1.0, gt=0, le=10, description="time between two questions to Postgres for its time and newest change"
    )
    notify_seconds: float = Field(
        0.05, ge=0, le=10, description="time in which the notifications of several writes become one"
    )
    kept_seconds: float = Field(604_800.0, ge=60, description="age beyond which changes are removed")
    max_changes: int = Field(
        50_000, ge=1, description="changes at once beyond which a replica reads the whole record again"
    )
    timeout_seconds: float = Field(
        30.0, gt=0, description="how long reading changes may take, and each part of reading the whole record"
    )


class FindSettings(BaseModel, frozen=True, extra="forbid"):
    """How a page is made."""

    max_steps: int = Field(
        5_000, ge=100, description="places of an order that a find looks at before it takes the matches whole"
    )
    kept_moves: int = Field(
        50_000, ge=0, description="moves within an order that are kept, so that pages stay stable"
    )


class ProjectionSettings(BaseModel, frozen=True, extra="forbid"):
    """The projection of the record in Valkey."""

    enabled: bool = Field(True, description="whether this replica writes the projection")
    parts: tuple[Part, ...] = Field(
        ("details", "lists", "sets"),
        description="what is projected, the same in all replicas; a change of it builds the projection anew",
    )
    max_memory_share: float = Field(
        0.7, gt=0, le=1, description="share of Valkey's maxmemory beyond which nothing more is written"
    )
    batch_resources: int = Field(200, ge=1, le=5_000, description="resources written by one function call")
    timeout_seconds: float = Field(1.0, gt=0, description="how long a command of the projection may take")


class ContentsSettings(BaseModel, frozen=True, extra="forbid"):
    """Details on their way into a page."""

    cache_mb: int = Field(32, ge=0, description="memory for details that were read, in the process")
    timeout_seconds: float = Field(
        0.1, gt=0, description="how long Valkey may take before Postgres is asked instead"
    )
    breaker_failures: int = Field(
        5, ge=1, description="commands that fail in a row until Valkey is left alone"
    )
    breaker_reset_seconds: float = Field(
        1.0, gt=0, description="how long Valkey is left alone before it is tried again"
    )


class ListSettings(BaseModel, frozen=True, extra="forbid"):
    """Lists of resources."""

    max_entries: int = Field(
        100_000, ge=1, le=1_000_000, description="entries that a list may have, unless its type says fewer"
    )
    max_read_entries: int = Field(
        200_000, ge=1, le=10_000_000, description="entries that the lists of one find may have together"
    )


class CatalogSettings(BaseModel, frozen=True, extra="forbid"):
    """The catalog."""

    rights: RightsSettings = RightsSettings()
    feed: FeedSettings = FeedSettings()
    find: FindSettings = FindSettings()
    projection: ProjectionSettings = ProjectionSettings()
    contents: ContentsSettings = ContentsSettings()
    lists: ListSettings = ListSettings()
