"""The parsed request of a read, and the most that it may find."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.domain.blocks import find_cell
from libs.domain.cells import Cell
from libs.domain.minutes import LAST_MINUTE, MinuteRange
from libs.domain.runs import hash_of
from services.query.spans import Span, Spans, cut


@dataclass(frozen=True, slots=True)
class Question:
    """The aggregate of one video and event type over a range."""

    video_id: str
    event_type: str
    minutes: MinuteRange

    def arguments(self) -> tuple[str, str, int, int]:
        """Video, event type, and the range as two minutes that the column can hold."""
        return (
            self.video_id,
            self.event_type,
            self.minutes.start or 0,
            LAST_MINUTE if self.minutes.end is None else self.minutes.end,
        )

    @property
    def spans(self) -> Spans:
        """Which part of the range is read from which grain."""
        return cut(self.minutes)

    @property
    def hash(self) -> int:
        """By which blocks are found that may have the video."""
        return hash_of(self.video_id.encode())

    def find_cell(self, bodies: Sequence[bytes], span: Span) -> Cell:
        """What blocks say of a span. Raises UnknownVersion."""
        return find_cell(bodies, self.video_id.encode(), self.event_type.encode(), *span)


@dataclass(frozen=True, slots=True)
class Size:
    """How much a read may find before it has to go to the lane for heavy reads."""

    cells: int | None
    """of the rollups; None: no bound"""
    pending_events: int
    """events of the journal that the rollups lack, in the partition of the video"""


class TooHeavy(Exception):
    """The read found more than its size; `pending_events` is what it found of them."""

    def __init__(self, pending_events: int = 0) -> None:
        super().__init__(f"{pending_events} events pending")
        self.pending_events = pending_events
