"""The search: breadth first, so that the first violation found has a shortest way to it."""

from collections import deque
from dataclasses import dataclass

from tests.model.invariants import find_violation, find_violation_at_the_end
from tests.model.rules import Rule
from tests.model.state import Bounds, State, first
from tests.model.steps import steps


@dataclass(frozen=True, slots=True)
class Exploration:
    """What a search has found."""

    states: int
    """different ones that were seen"""
    ends: int
    """those of them after which nothing can happen any more"""
    violation: str | None
    trace: tuple[str, ...]
    """a shortest way to the violation, step by step"""

    def __str__(self) -> str:
        if self.violation is None:
            return f"no violation in {self.states:,} states, of which {self.ends:,} are ends"
        told = [f"  {number}. {step}" for number, step in enumerate(self.trace, start=1)]
        return "\n".join([*told, f"  So {self.violation}. ({self.states:,} states)"])


def explore(bounds: Bounds, off: Rule | None = None) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    start = first(bounds)
    came_from: dict[State, State | None] = {start: None}
    waiting, ends = deque([start]), 0
    while waiting:
        state = waiting.popleft()
        is_end = True
        for _, after in steps(state, bounds, off):
            is_end = False
            if after in came_from:
                continue
            came_from[after] = state
            if violation := find_violation(after, bounds):
                return Exploration(len(came_from), ends, violation, _way_to(after, came_from, bounds, off))
            waiting.append(after)
        ends += is_end
        if is_end and (violation := find_violation_at_the_end(state, bounds)):
            return Exploration(len(came_from), ends, violation, _way_to(state, came_from, bounds, off))
    return Exploration(len(came_from), ends, None, ())


def _way_to(
    state: State, came_from: dict[State, State | None], bounds: Bounds, off: Rule | None
) -> tuple[str, ...]:
    way: list[str] = []
    while (before := came_from[state]) is not None:
        way.append(next(words for words, after in steps(before, bounds, off) if after == state))
        state = before
    return tuple(reversed(way))
