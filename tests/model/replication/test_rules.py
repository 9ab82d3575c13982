"""The rules of replication suffice in a small world, and each of them is needed.

`python -m tests.model.replication` tells a way to a wrong row for each rule that is switched off.
"""

import sys

import pytest

from tests.model.replication.explore import explore
from tests.model.replication.rules import Rule
from tests.model.replication.state import Bounds

KILLS = Bounds(writes=3, kills=1)
LOADS = Bounds(writes=3, kills=0, announcements=1)
PRUNED_LOADS = Bounds(writes=3, writers=1, kills=0, prunes=1, announcements=1)

WHERE = {
    Rule.LOCATION_LOCK: Bounds(writes=3, kills=0),
    Rule.VERSION_UNDER_LOCK: Bounds(writes=2, kills=0),
    Rule.WHOLE_SNAPSHOT: Bounds(writes=2, kills=0),
    Rule.WATERMARK_AT_THE_END: Bounds(writes=1, kills=1),
    Rule.ONE_TRANSACTION: Bounds(writes=1, kills=1),
    Rule.OWN_CURSOR: Bounds(writes=2, kills=1),
    Rule.NEXT_FRAME: Bounds(writes=2, writers=1, kills=1),
    Rule.ONE_LANE: Bounds(writes=2, writers=1, kills=0, announcements=1),
    Rule.BEHIND: Bounds(writes=1, kills=0, announcements=1),
    Rule.LOADING_IN_PASSES: Bounds(writes=2, writers=1, kills=0, announcements=1),
    Rule.FLOOR: Bounds(writes=2, writers=1, kills=0, prunes=1),
    Rule.FLOOR_IN_PAGE: Bounds(writes=3, writers=1, kills=0, prunes=1),
    Rule.FLOOR_OF_LOADS: Bounds(writes=2, writers=1, kills=0, prunes=1, announcements=1),
    Rule.CLOSING_WORD: Bounds(writes=1, kills=0, restores=1),
    Rule.OPEN_WORDS: Bounds(writes=1, kills=0, restores=1),
}
"""The smallest world in which each rule is missed; without the mutation, larger ones are searched."""


@pytest.mark.timeout(600)  # all of it is computing, which takes as long as the machine is busy
@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param(KILLS, id="kills"),
        pytest.param(Bounds(writes=3, kills=0, prunes=1), id="prunes"),
        pytest.param(Bounds(writes=2, kills=0, announcements=1), id="loads_of_two_writers"),
        pytest.param(Bounds(writes=3, writers=1, kills=0, announcements=1), id="loads_of_three_writes"),
        pytest.param(LOADS, id="loads", marks=pytest.mark.long),
        pytest.param(Bounds(writes=2, kills=0, restores=1), id="restores"),
        pytest.param(PRUNED_LOADS, id="pruned_loads"),
        pytest.param(Bounds(writes=3, kills=1, prunes=1), id="kills_and_prunes", marks=pytest.mark.long),
        pytest.param(
            Bounds(writes=2, kills=1, announcements=1), id="kills_and_loads", marks=pytest.mark.long
        ),
        # All of it with two writes takes 5 minutes and 8 GB, and finds nothing more.
        pytest.param(
            Bounds(writes=1, writers=1, kills=1, prunes=1, announcements=1, restores=1),
            id="all_with_one_write",
        ),
        pytest.param(Bounds(writes=2, writers=1, kills=1, prunes=1, restores=1), id="all_but_loads"),
        pytest.param(Bounds(writes=2, writers=1, kills=1, prunes=1, announcements=1), id="all_but_restores"),
        pytest.param(
            Bounds(writes=2, writers=1, kills=0, prunes=1, announcements=1, restores=1),
            id="all_but_kills",
            marks=pytest.mark.long,
        ),
    ],
)
def test_nothing_goes_wrong_while_all_rules_hold(bounds: Bounds) -> None:
    found = explore(bounds)
    assert found.violation is None, str(found)
    assert found.goals > 0


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_a_rule_that_is_switched_off_is_missed(rule: Rule) -> None:
    found = explore(WHERE[rule], off=rule)
    sys.stdout.write(f"Without the rule that {rule.value}:\n{found}\n")
    assert found.violation is not None
