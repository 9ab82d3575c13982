"""The interval and the size of flushes, adapted to how long they take.

Few large flushes cost less than many small ones, because each key is written less often. But a flush is one
transaction, and one that takes too long is in doubt.
"""

from services.counting.settings import FlushSettings

_SECONDS_PER_CELL = 10e-6
"""The assumed cost of a cell until a flush has measured it."""
_TELLING_CELLS = 2_000
"""A smaller flush says more of a transaction's fixed cost than of its cells."""
_QUIET_EVENTS = 2_000
_LATEST_SHARE = 0.5
"""Weight of the latest flush in the moving average."""
_IN_DOUBT_FACTOR = 4 / 3
"""With this the most cells are at most half of those that did not get through in the time there is."""
_LOAD_FACTOR = 4
"""The pause after a flush, in multiples of its duration; Postgres has it for inserts alone."""


class Pace:
    """The pace of one shard's flushes; `longest_seconds` is how long a transaction of it may take."""

    def __init__(self, settings: FlushSettings, longest_seconds: float) -> None:
        self._settings = settings
        self.longest_seconds = longest_seconds
        self._seconds_per_cell = _SECONDS_PER_CELL
        self.took_seconds = 0.0
        """how long the latest flush took"""

    def note(self, cells: int, seconds: float) -> None:
        """Record the duration of a flush, with its cells."""
        self.took_seconds = seconds
        # Where flushes are as slow as that, all that are due are small; they must be able to say that it is over.
        if cells >= min(_TELLING_CELLS, self.due_cells):
            self._seconds_per_cell += _LATEST_SHARE * (seconds / cells - self._seconds_per_cell)

    def note_in_doubt(self, cells: int, seconds: float) -> None:
        """A flush did not end in time. It may have been too large: the next one has half of its cells."""
        if cells >= min(_TELLING_CELLS, self.due_cells):
            self._seconds_per_cell = max(self._seconds_per_cell, _IN_DOUBT_FACTOR * seconds / cells)

    @property
    def pause_seconds(self) -> float:
        """The longest time from the end of a flush to the next."""
        pause = max(self._settings.interval_seconds, _LOAD_FACTOR * self.took_seconds)
        return min(pause, self._settings.max_interval_seconds)

    def is_quiet(self, events: int) -> bool:
        """Whether an interval had so few events that a flush would delay no insert."""
        return events < _QUIET_EVENTS

    @property
    def due_cells(self) -> int:
        """Cells in the buffer that start a flush at once: half of the limit, so that room is left during the flush."""
        return self.most_cells // 2

    @property
    def most_cells(self) -> int:
        """The number of cells beyond which entries are refused: a flush of them takes two thirds of its time limit."""
        in_time = int(self.longest_seconds * 2 / 3 / self._seconds_per_cell)
        return min(max(in_time, _TELLING_CELLS), self._settings.max_cells)
