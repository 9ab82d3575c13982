"""The events of a run: video ids by a bounded Zipf law, five event types, made from a seed before any clock starts."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

EVENT_TYPES = ("view", "like", "share", "comment", "follow")
_EXPONENT = 1.1
# An odd number times the rank, modulo 2^64, is different for every rank, and scatters neighbours.
_SCATTER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Mix:
    """What the events are about. `hot_share`: of all events, those on the one most popular video besides its own."""

    name: str = "zipf"
    video_count: int = 1_000_000
    hot_share: float = 0.0


ZIPF = Mix()
HOT = Mix("hot", hot_share=0.5)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client has in hand before it sends: numbers for videos and types, and the names that they stand for."""

    video: npt.NDArray[np.int32]
    event_type: npt.NDArray[np.uint8]
    video_ids: npt.NDArray[np.object_]
    """of the whole run: the id of each video number"""

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A request summed by video and event type."""

    video_ids: list[str]
    event_types: list[str]
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Events:
    """n events; `code` is what the oracle counts by."""

    video_ids: npt.NDArray[np.object_]
    """of the videos that occur, 11 characters each"""
    video: npt.NDArray[np.int32]
    """the place of each event's video in `video_ids`"""
    event_type: npt.NDArray[np.uint8]
    """its place in EVENT_TYPES"""

    def __len__(self) -> int:
        return len(self.video)

    @property
    def code_count(self) -> int:
        """So many pairs of video and event type there can be."""
        return len(self.video_ids) * len(EVENT_TYPES)

    def codes(self, n: int) -> npt.NDArray[np.int64]:
        """video · 5 + event type, of the first n events."""
        return self.video[:n].astype(np.int64) * len(EVENT_TYPES) + self.event_type[:n]


def make_events(n: int, mix: Mix, seed: int) -> Events:
    """Draw n events; the same for the same arguments.

    Videos: rank k with a probability in proportion to k^-1.1, by the inverse of the cumulative distribution.
    """
    random = np.random.default_rng(seed)
    cumulative = np.cumsum(np.arange(1, mix.video_count + 1, dtype=np.float64) ** -_EXPONENT)
    rank = np.searchsorted(cumulative, random.random(n) * cumulative[-1], side="right")
    rank[random.random(n) < mix.hot_share] = 0
    event_type = random.integers(0, len(EVENT_TYPES), n, dtype=np.uint8)
    ranks, video = np.unique(np.minimum(rank, mix.video_count - 1), return_inverse=True)
    return Events(_name(ranks), video.astype(np.int32), event_type)


def sum_pairs(request: Request) -> Pairs:
    """What a client of a store without columns does before it sends."""
    codes = request.video.astype(np.int64) * len(EVENT_TYPES) + request.event_type
    pairs, counts = np.unique(codes, return_counts=True)
    video, event_type = np.divmod(pairs, len(EVENT_TYPES))
    return Pairs(
        request.video_ids[video].tolist(),
        [EVENT_TYPES[number] for number in event_type.tolist()],
        counts.tolist(),
    )


@dataclass(slots=True)
class Cursor:
    """Cuts events into requests, one pass after another; whatever it gave out is sent and acknowledged."""

    events: Events
    size: int
    taken: int = field(default=0, init=False)
    """events given out so far, over all passes"""

    def take(self) -> Request:
        """The next request. The last of a pass is shorter when the size does not fit."""
        start = self.taken % len(self.events)
        stop = min(start + self.size, len(self.events))
        self.taken += stop - start
        return Request(
            self.events.video[start:stop], self.events.event_type[start:stop], self.events.video_ids
        )

    def take_up_to(self, event_count: int) -> Iterator[Request]:
        """Requests until so many events were given out from here."""
        end = self.taken + event_count
        while self.taken < end:
            yield self.take()


def _name(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    scattered = ((ranks.astype(np.uint64) + np.uint64(1)) * _SCATTER).astype(">u8").tobytes()
    names = np.empty(len(ranks), object)
    names[:] = [
        base64.urlsafe_b64encode(scattered[at : at + 8]).decode()[:11] for at in range(0, len(scattered), 8)
    ]
    return names
