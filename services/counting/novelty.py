"""Which rows are new to the rollups, as far as one log can tell.

To look a row up before it is inserted costs two fifths of adding it. Most rows of a flush are the first of their
minute, and a log knows what it has flushed itself. What it cannot know is what others have: another shard for a while,
or a log of before. So this is a hint, which the unique index holds to account: a row that was there after all fails the
flush, as a whole and for certain, and the flush is made again without the hint.
"""

import numpy as np
import numpy.typing as npt

from services.counting.buffer import MinuteRows

_BITS = 22
"""Of the places of a minute, 4 MiB. Two rows may share one: then the later of them is taken for known."""
_MOST_MINUTES = 4
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: it maps no two numbers to one


class Novelty:
    """Remembers the rows that a log has flushed, of the latest few minutes."""

    def __init__(self, opened_in: int) -> None:
        """`opened_in`: the minute; of those before it the rollups are likely to have rows."""
        self._known_after = opened_in - 1
        self._flushed: dict[int, npt.NDArray[np.bool_]] = {}

    def note(self, rows: MinuteRows) -> npt.NDArray[np.bool_]:
        """(n,) whether each row is new, if nobody else has written it; none of them will be again."""
        minute = rows.cells.minute
        is_new = np.zeros(len(rows), np.bool_)
        is_known = minute > self._known_after
        if not is_known.any():
            return is_new
        places = _places_of(rows)
        for each in np.unique(minute[is_known]).tolist():
            at = np.flatnonzero(minute == each)
            flushed = self._flushed.setdefault(each, np.zeros(1 << _BITS, np.bool_))
            is_new[at] = ~flushed[places[at]]
            flushed[places[at]] = True
        while len(self._flushed) > _MOST_MINUTES:
            self._forget(min(self._flushed))
        return is_new

    def distrust(self, rows: MinuteRows) -> None:
        """Somebody else has written one of these rows: take none of their minutes for known any more."""
        if len(rows):
            self._forget(int(rows.cells.minute.max()))

    def _forget(self, minute: int) -> None:
        """This one, and all before it."""
        self._known_after = max(self._known_after, minute)
        self._flushed = {each: flushed for each, flushed in self._flushed.items() if each > minute}


def _places_of(rows: MinuteRows) -> npt.NDArray[np.uint64]:
    """(n,) a place for each (video, event type)."""
    video, event_type = (
        np.fromiter(map(hash, names), np.int64, len(rows)).view(np.uint64)
        for names in (rows.video_id, rows.event_type)
    )
    return ((video * _SPREAD) ^ event_type) >> np.uint64(64 - _BITS)
