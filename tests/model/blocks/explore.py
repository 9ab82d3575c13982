"""The search of this model; its goals are states in which a merge is complete."""

from tests.model.blocks.rules import Rule
from tests.model.blocks.state import Bounds, first
from tests.model.blocks.steps import steps
from tests.model.search import Exploration, search


def explore(bounds: Bounds, off: Rule | None = None) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    return search(
        first(bounds),
        lambda state: steps(state, bounds, off),
        lambda state: state.wrong,
        is_goal=lambda state: any(run.level and run.is_complete for run in state.runs),
    )
