"""Clients, which send a request, and send it again, to whichever shard.

What was sent and waits does nothing: it counts as arrived when a shard takes it into a group.
"""

from collections.abc import Iterator
from itertools import product

from tests.model.state import Bounds, State


def arrivals(state: State, bounds: Bounds, place: int) -> Iterator[tuple[tuple[str, ...], State]]:
    """Each collection of requests, empty or not, that may arrive at a shard together.

    Requests are alike, and so are shards: X is the request that arrives first, and A the shard where it does.
    """
    for counts in product(*(range(left + 1) for left in state.sends_left)):
        sends_left = tuple(left - n for left, n in zip(state.sends_left, counts, strict=True))
        was_sent = [left < sends for left, sends in zip(sends_left, bounds.sends, strict=True)]
        if was_sent != sorted(was_sent, reverse=True):
            continue
        if place > 0 and state.sends_left == bounds.sends and any(counts):
            continue
        arrived = tuple("XYZ"[number] for number, n in enumerate(counts) for _ in range(n))
        yield arrived, state._replace(sends_left=sends_left)
