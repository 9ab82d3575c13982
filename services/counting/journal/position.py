"""A position in a log: how far its events are in the rollups."""

from typing import NamedTuple


class Position(NamedTuple):
    """Before it are all events of the entries up to `seq`, and the first `events` of the entry after them.

    An entry that is too large for one transaction is applied in several, so a position may lie within it: then
    `seq` is that of the entry less 1. Positions are in the order of the log.
    """

    seq: int = 0
    events: int = 0

    def events_before(self, seq: int) -> int:
        """How many events of the entry `seq`, which is above `self.seq`, are before this position."""
        return self.events if seq == self.seq + 1 else 0
