"""The search of this model; its goals are states in which a whole generation with events is in the grains."""

from tests.model.search import Exploration, search
from tests.model.upkeep.rules import Rule
from tests.model.upkeep.state import Bounds, first
from tests.model.upkeep.steps import steps


def explore(bounds: Bounds, off: Rule | None = None) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    return search(
        first(bounds),
        lambda state: steps(state, bounds, off),
        lambda state: state.wrong,
        is_goal=lambda state: any(
            each.minutes and each.rolled_to == bounds.videos for each in state.generations
        ),
    )
