"""The insert hint: a guess which rows are new to the rollups, from what one log has flushed.

Looking up a new row takes two fifths of an upsert's time (ADR 11), and most rows of a flush are new, because the minute
is in their key. A log remembers what it has flushed, but not what others have written: a shard that led the partition
for a while, this shard's earlier log, a recovery. So this is only a hint. The unique index checks it: if a row
exists, Postgres refuses the whole flush, and the flush is retried as an upsert.
"""

import numpy as np
import numpy.typing as npt

from services.counting.flush.buffer import PIECE_NAMES, Mask, MinuteRows
from tally.contract.request_id import AHEAD_MS

_SLOT_BITS = 21
"""2^21 slots a minute, a byte each. Of two rows in one slot the one flushed later is taken for known."""
_BEHIND = 2
_AHEAD = AHEAD_MS // 60_000
"""The minutes that are remembered around the present one; callers' clocks may be so far ahead."""
_LONGEST_WAIT = 8
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, volume 3, 6.4)


class InsertHint:
    """Remembers the rows that a log has flushed, of the latest few minutes. Minutes count from 1970."""

    def __init__(self, opened_in: int) -> None:
        """`opened_in`: the minute. Of that, and of those before, others are likely to have written rows."""
        self._known_after = opened_in
        self._flushed: dict[int, Mask] = {}
        self._wait = 0
        self._waits_until = opened_in

    def note(self, rows: MinuteRows, now: int) -> Mask:
        """(n,) whether each row is new to this log; then marks all of them as flushed. `now`: the minute."""
        minute = rows.cells.minute
        is_new = np.zeros(len(rows), np.bool_)
        self._forget(now - _BEHIND - 1)
        is_remembered = (minute > self._known_after) & (minute <= now + _AHEAD)
        if not is_remembered.any():
            return is_new
        slots = _slots_of(rows)
        for each in np.unique(minute[is_remembered]).tolist():
            at = np.flatnonzero(minute == each)
            flushed = self._flushed.setdefault(each, np.zeros(1 << _SLOT_BITS, np.bool_))
            is_new[at] = ~flushed[slots[at]]
            flushed[slots[at]] = True
        return is_new

    def note_conflict(self, now: int) -> None:
        """A row that was taken for new was there: none of this minute or before is new any more.

        When conflicts go on, none of the next few minutes either. `now`: the minute.
        """
        if now > self._waits_until + _LONGEST_WAIT:
            self._wait = 0
        self._waits_until = now + self._wait
        self._forget(self._waits_until)
        self._wait = min(2 * self._wait + 1, _LONGEST_WAIT)

    def _forget(self, minute: int) -> None:
        """Know nothing of this minute and those before, from now on."""
        self._known_after = max(self._known_after, minute)
        self._flushed = {each: flushed for each, flushed in self._flushed.items() if each > self._known_after}


def _slots_of(rows: MinuteRows) -> npt.NDArray[np.uint64]:
    """(n,) a slot for each (video, event type); n > 0."""
    hashes = _hash(rows.video_id) * _SPREAD ^ _hash(rows.event_type)
    return hashes >> np.uint64(64 - _SLOT_BITS)


def _hash(names: list[str]) -> npt.NDArray[np.uint64]:
    """(n,) the hash of each name, another in each process."""
    pieces = [names[start : start + PIECE_NAMES] for start in range(0, len(names), PIECE_NAMES)]
    return np.concatenate([np.fromiter(map(hash, piece), np.int64, len(piece)) for piece in pieces]).view(
        np.uint64
    )
