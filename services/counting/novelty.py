"""Which rows are new to the rollups, as far as one log can tell.

To look a row up before it is inserted costs two fifths of adding it. Most rows of a flush are the first of their
minute, and a log knows what it has flushed itself. What it cannot know is what others have: another shard for a while,
or a log of before. So this is a hint, which the unique index holds to account: a row that was there after all fails the
flush, as a whole and for certain, and the flush is made again without the hint.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.counting.buffer import MinuteRows

_BITS = 21
"""Of the places of a minute, 2 MiB. Two rows may share one: then the later of them is taken for known."""
_BEHIND, _AHEAD = 2, 5
"""The minutes that are remembered, around the present one. Callers' clocks may be so much ahead."""
_MOST_CAUTION = 8
_PIECE_NAMES = 8_192
"""So many names are hashed at once, in one hold of the interpreter's lock."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: it maps no two numbers to one


class Novelty:
    """Remembers the rows that a log has flushed, of the latest few minutes. Minutes count from 1970."""

    def __init__(self, opened_in: int) -> None:
        """`opened_in`: the minute. Of that, and of those before, others are likely to have written rows."""
        self._known_after = opened_in
        self._flushed: dict[int, npt.NDArray[np.bool_]] = {}
        self._caution = 0
        self._cautious_until = opened_in

    def note(self, rows: MinuteRows, now: int) -> npt.NDArray[np.bool_]:
        """(n,) whether each row is new, if nobody else has written it. `now`: the minute. None will be new again."""
        minute = rows.cells.minute
        is_new = np.zeros(len(rows), np.bool_)
        self._forget(now - _BEHIND - 1)
        is_remembered = (minute > self._known_after) & (minute <= now + _AHEAD)
        if not is_remembered.any():
            return is_new
        places = _places_of(rows)
        for each in np.unique(minute[is_remembered]).tolist():
            at = np.flatnonzero(minute == each)
            flushed = self._flushed.setdefault(each, np.zeros(1 << _BITS, np.bool_))
            is_new[at] = ~flushed[places[at]]
            flushed[places[at]] = True
        return is_new

    def distrust(self, now: int) -> None:
        """Somebody else has written such a row: for a while nothing is new, longer if that happens again and again."""
        if now > self._cautious_until + _MOST_CAUTION:
            self._caution = 0
        self._cautious_until = now + self._caution
        self._forget(self._cautious_until)
        self._caution = min(2 * self._caution + 1, _MOST_CAUTION)

    def _forget(self, minute: int) -> None:
        """This one, and all before it."""
        self._known_after = max(self._known_after, minute)
        self._flushed = {each: flushed for each, flushed in self._flushed.items() if each > self._known_after}


def _places_of(rows: MinuteRows) -> npt.NDArray[np.uint64]:
    """(n,) a place for each (video, event type)."""
    return ((_hashes(rows.video_id) * _SPREAD) ^ _hashes(rows.event_type)) >> np.uint64(64 - _BITS)


def _hashes(names: Sequence[str]) -> npt.NDArray[np.uint64]:
    pieces = [names[start : start + _PIECE_NAMES] for start in range(0, len(names), _PIECE_NAMES)]
    return np.concatenate([np.fromiter(map(hash, piece), np.int64, len(piece)) for piece in pieces]).view(
        np.uint64
    )
