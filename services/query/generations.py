"""Which generations a read must take: those that are not rolled up, and at the edges of a range some that are.

A statement names the generations as constants, so that Postgres plans and locks their tables alone, however many there
are. (With a parameter in their place, a generic plan locks all of them, and a custom plan is made for each read.) The
statement also returns those that are right in its own snapshot. When one of them was not named, the answer is discarded
and the statement is repeated.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from libs.domain.grains import grain_of
from services.query.spans import Span, Spans

KNOWN = """
known as materialized (
    select array(
        select generation from counting.generation where generation > 0 and rolled_at is null
    ) as unrolled_generations, array(
        select generation from counting.generation
        where generation > 0 and rolled_at is null and (rolled_to is null or rolled_to <= $6)
    ) as open_generations, array(
        select generation from counting.generation_hour join counting.generation using (generation)
        where hour = any($7::integer[]) and (rolled_at is not null or rolled_to > $6)
    ) as edge_generations
)"""
"""`$6`: the hash of the video, `$7`: the hours at the edges of the range.

Open are the generations whose minutes of this video no grain has; of the edges those that are rolled up and have
minutes in these hours.
"""

_MOST_HOURS = 10_000


class Generations:
    """What is known of one server, from its answers: never sure, and checked by each statement."""

    def __init__(self) -> None:
        self._unrolled: frozenset[int] = frozenset()
        """also those of which some videos are rolled up"""
        self._at_edges: dict[int, frozenset[int]] = {}
        """by hour"""

    def name(self, spans: Spans) -> frozenset[int]:
        """The generations to name in a statement."""
        edges = (self._at_edges.get(hour, frozenset()) for hour in spans.edge_hours)
        return self._unrolled.union((grain.generation for grain in spans.grains), *edges)

    def learn(self, spans: Spans, row: Any, named: frozenset[int]) -> bool:
        """Take note of a row with the columns of KNOWN; whether all that it needs was named."""
        is_open, at_edges = frozenset(row["open_generations"]), frozenset(row["edge_generations"])
        self._unrolled = frozenset(row["unrolled_generations"])
        for hour in spans.edge_hours:
            if hour in self._at_edges or at_edges:
                self._at_edges.pop(hour, None)
                self._at_edges[hour] = at_edges
        while len(self._at_edges) > _MOST_HOURS:
            del self._at_edges[next(iter(self._at_edges))]
        return is_open | at_edges <= named


def write(generations: Iterable[int]) -> str:
    """Generations within a statement; none: one that has no runs."""
    return ", ".join(map(str, sorted(generations))) or "0"


def spans_of(generation: int, row: Any, spans: Spans) -> Sequence[Span]:
    """What is read of the blocks of a generation that was named, by a row with the columns of KNOWN."""
    if generation in row["open_generations"]:
        return [spans.whole]
    if generation < 0 or generation in row["edge_generations"]:
        return spans.of(grain_of(generation))
    return []
