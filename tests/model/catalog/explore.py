"""The search of this model; its goals are states in which PutRules has returned."""

from tests.model.catalog.rules import Rule
from tests.model.catalog.state import Bounds, Put, first
from tests.model.catalog.steps import steps
from tests.model.search import Exploration, search


def explore(bounds: Bounds, off: Rule | None = None) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    return search(
        first(bounds),
        lambda state: steps(state, bounds, off),
        lambda state: state.wrong,
        is_goal=lambda state: state.put is Put.RETURNED,
    )
