"""Events that wait to be sent, in order of arrival, stored as the columns of future requests.

Pure: no clock, no input or output, no lock.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tally.client._checks.rules import MAX_TEXT_BYTES
from tally.client._delivery.sending import Delivery
from tally.client.batching import Batching
from tally.client.columns import NUMBERS_BYTES, Layout
from tally.contract.errors import TallyError

F = TypeVar("F")
"""The future of one event: asyncio's, or that of a thread."""

_ENVELOPE_BYTES = 160
"""Size of a request without its events: the id, and the field and length of each column."""
_MAX_EVENT_BYTES = MAX_TEXT_BYTES + 3 * 4 + NUMBERS_BYTES


@dataclass(slots=True, eq=False)
class Awaited:
    """A caller who waits for the end of his event, is told himself if it fails, and may know more meanwhile."""

    delivery: Delivery = field(default_factory=Delivery)
    """that of the request in which the event goes, as soon as it is in one"""
    is_waiting: bool = True
    """until the caller goes, with an answer or without"""


class Draft(Generic[F]):
    """The events of one request to be, and the future of each."""

    __slots__ = ("awaited", "began_at", "delivery", "futures", "layout", "loss")

    def __init__(self, began_at: float) -> None:
        """`began_at`: when the first event came, in monotonic seconds."""
        self.began_at = began_at
        self.layout = Layout(is_checked=True)
        self.futures: list[F] = []
        self.awaited: dict[F, Awaited] = {}
        """of those with a caller who waits, or has waited"""
        self.delivery = Delivery()
        self.loss: TallyError | None = None
        """the first error of an event whose caller does not wait"""

    def __len__(self) -> int:
        return len(self.futures)

    def take(self, places: Collection[int]) -> list[F]:
        """Take the events at these places out. What is left is a request that was never sent.

        Returns the futures of those taken, in the order of `places`.
        """
        taken = [self.futures[at] for at in places]
        self.layout = self.layout.without(places)
        self.futures = [future for at, future in enumerate(self.futures) if at not in places]
        # The same object, which callers who wait hold on to.
        self.delivery.batch = self.delivery.error = None
        return taken

    def is_awaited(self, future: F) -> bool:
        """Whether a caller still waits for the end of this event."""
        awaited = self.awaited.get(future)
        return awaited is not None and awaited.is_waiting

    def take_all(self) -> list[F]:
        """Take all events out; their futures."""
        taken, self.futures = self.futures, []
        return taken


class Buffer(Generic[F]):
    """Takes events and gives them out as drafts, each event in one, in order, each draft within its bounds."""

    def __init__(self, batching: Batching, now: Callable[[], float]) -> None:
        self._most_events = batching.max_events
        # Full is whatever has no room for the largest event there can be, so that no request is larger than it may.
        self._most_bytes = batching.max_bytes - _ENVELOPE_BYTES - _MAX_EVENT_BYTES
        self._now = now
        self._full: deque[Draft[F]] = deque()
        self._open: Draft[F] | None = None

    def add(
        self,
        video_id: str,
        event_type: str,
        time_us: int | None,
        value: float | None,
        actor_id: str,
        future: F,
        awaited: Awaited | None = None,
    ) -> None:
        """Take an event and its future. Raises InvalidRequest, and takes nothing."""
        draft = Draft(self._now()) if self._open is None else self._open
        draft.layout.add(video_id, event_type, time_us, value, actor_id)
        draft.futures.append(future)
        self._open = draft
        if awaited is not None:
            awaited.delivery = draft.delivery
            draft.awaited[future] = awaited
        if len(draft) >= self._most_events or self._bytes(draft) > self._most_bytes:
            self.seal()

    @property
    def room(self) -> int:
        """How many events the draft that is open has room for at least; 1 if there is none."""
        if self._open is None:
            return 1
        left_bytes = self._most_bytes - self._bytes(self._open)
        return max(1, min(self._most_events - len(self._open), left_bytes // _MAX_EVENT_BYTES))

    @staticmethod
    def _bytes(draft: Draft[F]) -> int:
        return draft.layout.text_bytes + len(draft) * NUMBERS_BYTES

    def seal(self) -> list[Draft[F]]:
        """Let nothing more into the draft that is open; all that waits, oldest first."""
        if self._open is not None:
            self._full.append(self._open)
            self._open = None
        return list(self._full)

    @property
    def open_since(self) -> float | None:
        """When the draft that is open began; None if there is none."""
        return self._open.began_at if self._open else None

    def take(self, *, also_open: bool) -> Draft[F] | None:
        """The oldest draft that is full, or else the one that is open, if that will do."""
        if also_open and not self._full:
            self.seal()
        return self._full.popleft() if self._full else None

    def drain(self) -> list[Draft[F]]:
        """Everything, oldest first."""
        drafts = self.seal()
        self._full.clear()
        return drafts
