"""The populations: for each its table, the columns that jobs may filter by, and those that handlers may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass

_FILTERS = frozenset({"is_oon", "has_label_association"})


@dataclass(frozen=True, slots=True)
class Population:
    """A table of members with the key (sync_bin, youtube_id)."""

    table: str
    noun: str
    """what its members are called in logs"""
    columns: frozenset[str]
    """that a lease may carry"""
    filters: frozenset[str] = _FILTERS
    """boolean columns that a job may select by"""

    def condition(self, where: Mapping[str, bool]) -> str:
        """SQL for the members that are there and have these values in their columns, which `filters` must hold."""
        terms = [column if where[column] else f"not {column}" for column in sorted(where)]
        return " and ".join(["not gone", *terms])


POPULATIONS: Mapping[str, Population] = {
    "youtube_video": Population(
        "scheduler.youtube_video",
        "videos",
        frozenset(
            {
                "channel_id",
                "title",
                "published_at",
                "duration_seconds",
                "view_count",
                "like_count",
                "comment_count",
                "etag",
                "is_oon",
                "has_label_association",
                "video_synced_at",
            }
        ),
    ),
    "youtube_channel": Population(
        "scheduler.youtube_channel",
        "channels",
        frozenset({"title", "etag", "is_oon", "has_label_association", "video_synced_at"}),
    ),
}
