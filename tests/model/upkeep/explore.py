"""The search, breadth first: the first violation found has a shortest way to it."""

from collections import deque
from dataclasses import dataclass

from tests.model.upkeep.rules import Rule
from tests.model.upkeep.state import Bounds, State, first
from tests.model.upkeep.steps import steps


@dataclass(frozen=True, slots=True)
class Exploration:
    """What a search has found; `trace` is a shortest way to the violation."""

    states: int
    rolled_up: int
    """states in which a whole generation with events is in the grains"""
    violation: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        if not self.violation:
            return f"no violation in {self.states:,} states"
        told = [f"  {number}. {step}" for number, step in enumerate(self.trace, start=1)]
        return "\n".join([*told, f"  So {self.violation}. ({self.states:,} states)"])


def explore(bounds: Bounds, off: Rule | None = None) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    start = first(bounds)
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    waiting, rolled_up = deque([start]), 0
    while waiting:
        state = waiting.popleft()
        rolled_up += any(each.minutes and each.rolled_to == bounds.videos for each in state.generations)
        for what, after in steps(state, bounds, off):
            if after in came_from:
                continue
            came_from[after] = (state, what)
            if after.wrong:
                return Exploration(len(came_from), rolled_up, after.wrong, _way_to(after, came_from))
            waiting.append(after)
    return Exploration(len(came_from), rolled_up, "", ())


def _way_to(state: State, came_from: dict[State, tuple[State, str] | None]) -> tuple[str, ...]:
    way: list[str] = []
    while (before := came_from[state]) is not None:
        state, what = before
        way.append(what)
    return tuple(reversed(way))
