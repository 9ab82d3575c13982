"""The backlog: events that are journaled and not in the rollups yet, in the steps of their flush.

Nearly always it is one step, flushed in one transaction. An entry with more events than the limit of cells in a
transaction (`most_cells`) is cut into several steps, and so is a backlog that grew before flushes became slow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.counting.flush.buffer import Buffer
from services.counting.journal.entry import NumberedEntry
from services.counting.journal.position import Position


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction adds to the rollups, and the position of the log after it."""

    buffer: Buffer
    end: Position


class Backlog:
    """Takes the entries of one log in the order of seq, and gives them back as steps. Pure, as Buffer."""

    def __init__(self, most_cells: Callable[[], int]) -> None:
        """`most_cells`: how many cells a transaction may have at this moment."""
        self._most_cells = most_cells
        self._steps: list[Step] = []
        self._buffer = Buffer()

    @property
    def event_count(self) -> int:
        return self._buffer.event_count + sum(step.buffer.event_count for step in self._steps)

    @property
    def cell_count(self) -> int:
        """An upper bound of the rows."""
        return self._buffer.cell_count + sum(step.buffer.cell_count for step in self._steps)

    def add(self, numbered: NumberedEntry) -> None:
        """Add the events of one entry. Never fails for an entry that was decoded."""
        most, count = self._most_cells(), len(numbered.entry.events)
        if self._buffer.event_count and self._buffer.cell_count + count > most:
            self._end_step(Position(numbered.seq - 1))
        if count <= most:
            self._buffer.add(numbered)
            return
        begin = 0
        while count - begin > most:
            self._buffer.add(numbered.part(begin, begin + most))
            begin += most
            self._end_step(Position(numbered.seq - 1, begin))
        self._buffer.add(numbered.part(begin, count))

    def take(self, cut: int) -> Sequence[Step]:
        """All steps, in order, the last of which ends after the entry `cut`; the backlog is empty then."""
        self._end_step(Position(cut))
        steps, self._steps = self._steps, []
        return steps

    def _end_step(self, end: Position) -> None:
        self._steps.append(Step(self._buffer, end))
        self._buffer = Buffer()
