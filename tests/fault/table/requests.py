"""The requests of the load: 1 to 500 events on a few hundred videos, most of them small, some videos hot."""

import random
from collections import Counter

from tally.client import Columns, Event
from tally.client.request_id import RequestIds
from tests.fault.table.ledger import Key, Request

VIDEOS = 300
EVENT_TYPES = ("view", "like", "watched")
VALUE_OF = {"watched": 30.0}
"""the value that each event of a type carries; a whole number, so that sums are exact"""

_SIZES = ((0.5, 1, 1), (0.3, 2, 30), (0.2, 100, 500))  # share, least, most


def new_id() -> str:
    """A request id of now."""
    return RequestIds().make()


def draw_request(chance: random.Random, prefix: str) -> Request:
    """A new request on the videos whose ids begin with `prefix`."""
    [(_, least, most)] = chance.choices(_SIZES, [share for share, *_ in _SIZES])
    events: Counter[Key] = Counter()
    for _ in range(chance.randint(least, most)):
        events[draw_key(chance, prefix)] += 1
    return Request(new_id(), events)


def draw_key(chance: random.Random, prefix: str) -> Key:
    """A video and an event type; the lower a video's number, the more often it comes."""
    return f"{prefix}{int(VIDEOS * chance.random() ** 2):03}", chance.choice(EVENT_TYPES)


def columns_of(request: Request) -> Columns:
    """The events as they are sent: the same bytes each time."""
    return Columns.of(
        Event(video, kind, value=VALUE_OF.get(kind))
        for (video, kind), count in request.events.items()
        for _ in range(count)
    )
