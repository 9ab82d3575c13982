"""Clients, which send a request, and send it again, to whichever shard.

What was sent and waits does nothing: it counts as arrived when a shard takes it into a group.
"""

from functools import cache
from itertools import product
from typing import NamedTuple

from tests.model.state import Bounds


class Arrival(NamedTuple):
    """Requests that arrive together, perhaps none, and how often each is still sent after that."""

    requests: tuple[str, ...]
    sends_left: tuple[int, ...]


@cache
def arrivals(sends_left: tuple[int, ...], bounds: Bounds, place: int) -> tuple[Arrival, ...]:
    """All that may arrive together at the shard at one place.

    Requests are alike, and so are shards: X is the request that arrives first, and A the shard where it does.
    """
    if place > 0 and sends_left == bounds.sends:
        return (Arrival((), sends_left),)
    found = []
    for counts in product(*(range(left + 1) for left in sends_left)):
        after = tuple(left - n for left, n in zip(sends_left, counts, strict=True))
        has_arrived = [left < sends for left, sends in zip(after, bounds.sends, strict=True)]
        if has_arrived == sorted(has_arrived, reverse=True):
            requests = tuple("XYZ"[number] for number, n in enumerate(counts) for _ in range(n))
            found.append(Arrival(requests, after))
    return tuple(found)
