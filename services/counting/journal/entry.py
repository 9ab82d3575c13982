"""An entry in the log of a shard."""

from dataclasses import dataclass, replace

from libs.domain.entry import Entry


@dataclass(slots=True)  # not frozen, as Entry
class NumberedEntry:
    """An entry with its number in a log."""

    seq: int
    received_at_us: int
    """microseconds since 1970-01-01 UTC by Postgres's clock, never ahead of it"""
    entry: Entry

    def part(self, begin: int, end: int | None) -> "NumberedEntry":
        """The same entry with its events from index `begin` to before `end` only."""
        return replace(self, entry=replace(self.entry, events=self.entry.events.part(begin, end)))
