"""The populations: for each its table, the columns that jobs may filter by, and those that handlers may ask for.

Statements call the number `sync_bin` and the id `youtube_id`, whatever their columns are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_FILTERS = frozenset({"is_oon", "has_label_association"})


@dataclass(frozen=True, slots=True)
class Population:
    """A table of members, in the order of a number and an id."""

    table: str
    noun: str
    """what its members are called in logs"""
    columns: frozenset[str]
    """that a lease may carry"""
    filters: frozenset[str] = _FILTERS
    """boolean columns that a job may select by"""
    key: str = "youtube_id"
    """the column of the id"""
    group: str = "sync_bin"
    """the column of the number"""
    shares_slots: bool = True
    """whether members of different groups may be in one slot; else a job selects all bins"""
    synced_at: str = "video_synced_at"
    """the column for the time of the last success"""
    has_retries: bool = True
    """whether single items are tried again here; else the service that fills the population does it"""
    wanted: str | None = None
    """a filter that is set until an item has an outcome other than RETRY"""

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
    # The calls of a slot go to one host, because hosts limit calls.
    "repo": Population(
        "scheduler.repo",
        "repos",
        frozenset(),
        filters=frozenset({"is_wanted"}),
        key="did",
        group="host",
        shares_slots=False,
        synced_at="synced_at",
        has_retries=False,
        wanted="is_wanted",
    ),
}
