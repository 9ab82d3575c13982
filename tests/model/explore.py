"""The search of this model."""

from tests.model.invariants import find_violation, find_violation_at_the_end
from tests.model.rules import Rule
from tests.model.search import Exploration, search
from tests.model.state import Bounds, first
from tests.model.steps import steps


def explore(bounds: Bounds, off: Rule | None = None) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    return search(
        first(bounds),
        lambda state: steps(state, bounds, off),
        lambda state: find_violation(state, bounds),
        at_the_end=lambda state: find_violation_at_the_end(state, bounds),
    )
