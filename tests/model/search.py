"""The search of every model, breadth first: the first violation found has a shortest way to it."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

S = TypeVar("S", bound=Hashable)
Steps = Callable[[S], Iterable[tuple[str, S]]]
"""What may happen next: in words, and the state after it."""
FindViolation = Callable[[S], str | None]
"""What is wrong with a state; nothing or an empty text: it is right."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """What a search has found."""

    states: int
    """different ones that were seen"""
    goals: int
    """those in which what the model is about has happened; a search without any proves nothing"""
    violation: str | None
    trace: tuple[str, ...]
    """a shortest way to the violation, step by step"""

    def __str__(self) -> str:
        if self.violation is None:
            return f"no violation in {self.states:,} states, of which {self.goals:,} are goals"
        told = [f"  {number}. {step}" for number, step in enumerate(self.trace, start=1)]
        return "\n".join([*told, f"  So {self.violation}. ({self.states:,} states)"])


def search(
    start: S,
    steps: Steps[S],
    find_violation: FindViolation[S],
    *,
    is_goal: Callable[[S], bool] | None = None,
    at_the_end: FindViolation[S] = lambda _: None,
) -> Exploration:
    """Look at every state that can be reached, or until one is wrong.

    An end is a state after which nothing can happen. `at_the_end`: what is wrong with an end. Without `is_goal` the
    ends are the goals.
    """
    came_from: dict[S, S | None] = {start: None}
    waiting, goals = deque([start]), 0
    while waiting:
        state = waiting.popleft()
        is_end = True
        for _, after in steps(state):
            is_end = False
            if after in came_from:
                continue
            came_from[after] = state
            if violation := find_violation(after):
                return Exploration(len(came_from), goals, violation, _way_to(after, came_from, steps))
            waiting.append(after)
        goals += is_end if is_goal is None else is_goal(state)
        if is_end and (violation := at_the_end(state)):
            return Exploration(len(came_from), goals, violation, _way_to(state, came_from, steps))
    return Exploration(len(came_from), goals, None, ())


def _way_to(state: S, came_from: dict[S, S | None], steps: Steps[S]) -> tuple[str, ...]:
    """Steps are taken again for their words, which would fill the memory during the search."""
    way: list[str] = []
    while (before := came_from[state]) is not None:
        way.append(next(words for words, after in steps(before) if after == state))
        state = before
    return tuple(reversed(way))
