"""Pure: how many events to apply in one transaction, if their cost is not known in advance."""

_FEWER, _MORE = 4, 2
_QUICK_SHARE = 0.25
"""A transaction within this share of its time leaves room for one that is `_MORE` times as large."""


class Stride:
    """A fourth after a failed transaction, which may have been too large; doubled while transactions are quick."""

    def __init__(self, most_events: int, longest_seconds: float) -> None:
        """`longest_seconds`: how long a transaction, or a statement of it, may take."""
        self._most_events = most_events
        self._quick_seconds = _QUICK_SHARE * longest_seconds
        self.events = most_events
        """the maximum of the next transaction"""

    def note_success(self, seconds: float) -> None:
        """A transaction was committed within this time."""
        if seconds < self._quick_seconds:
            self.events = min(_MORE * self.events, self._most_events)

    def note_failure(self, events: int) -> None:
        """A transaction of this number of events failed, for a reason other than its data."""
        self.events = max(1, min(self.events, events) // _FEWER)
