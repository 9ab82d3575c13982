"""Pure: decides from failed inserts how to continue, over several logs."""

from tally.contract.backoff import Backoff

_FAILURES_OF_AWAY = 2
_BACKOFF = Backoff(first_s=0.5, longest_s=10.0)


class Attempts:
    """The size of the next group, and whether inserts fail although logs can be opened.

    An insert that ends in doubt may have been too large for the time there is: the next has half of its entries, and
    each that gets through lets the group grow again. When several in a row end so, inserts do not work: the journal is
    locked, the server's disk is full. Then what waits is spooled, and an insert now and then finds out whether that is
    over.
    """

    def __init__(self, most_entries: int) -> None:
        self._most_entries = most_entries
        self._failures = 0
        self.group_entries = most_entries
        """the maximum number of entries of the next insert"""

    def note_success(self) -> None:
        """An insert was committed."""
        self._failures = 0
        self.group_entries = min(2 * self.group_entries, self._most_entries)

    def note_failure(self, entries: int) -> None:
        """An insert of this number of entries ended in doubt, or was refused for a reason other than their content."""
        self._failures += 1
        self.group_entries = max(1, entries // 2)

    @property
    def is_away(self) -> bool:
        """Whether to stop trying for a while."""
        return self._failures >= _FAILURES_OF_AWAY

    @property
    def pause_seconds(self) -> float:
        """For how long; it doubles each time."""
        if not self.is_away:
            return 0.0
        return _BACKOFF.cap_s(self._failures - _FAILURES_OF_AWAY)
