"""The rules of replication suffice in a small world, and each of them is needed.

`python -m tests.model.replication` tells a way to a wrong row for each rule that is switched off.
"""

import sys

import pytest

from tests.model.replication.explore import explore
from tests.model.replication.rules import Rule
from tests.model.replication.state import Bounds

KILLS = Bounds(writes=3, kills=1)
PRUNES = Bounds(writes=3, kills=0, prunes=1)
LOADS = Bounds(writes=3, kills=0, announcements=1)
RESTORES = Bounds(writes=2, kills=0, restores=1)
PRUNED_LOADS = Bounds(writes=3, writers=1, kills=0, prunes=1, announcements=1)

WHERE = {
    Rule.LOCATION_LOCK: KILLS,
    Rule.VERSION_UNDER_LOCK: KILLS,
    Rule.WHOLE_SNAPSHOT: KILLS,
    Rule.WATERMARK_AT_THE_END: KILLS,
    Rule.ONE_TRANSACTION: KILLS,
    Rule.OWN_CURSOR: KILLS,
    Rule.NEXT_FRAME: KILLS,
    Rule.ONE_LANE: LOADS,
    Rule.BEHIND: LOADS,
    Rule.LOADING_IN_PASSES: LOADS,
    Rule.FLOOR: PRUNES,
    Rule.FLOOR_IN_PAGE: PRUNES,
    Rule.FLOOR_OF_LOADS: PRUNED_LOADS,
    Rule.CLOSING_WORD: RESTORES,
    Rule.OPEN_WORDS: RESTORES,
}
"""A small world in which each rule is missed."""


@pytest.mark.timeout(600)  # all of it is computing, which takes as long as the machine is busy
@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param(KILLS, id="kills"),
        pytest.param(PRUNES, id="prunes"),
        pytest.param(LOADS, id="loads"),
        pytest.param(RESTORES, id="restores"),
        pytest.param(PRUNED_LOADS, id="pruned_loads"),
        pytest.param(Bounds(writes=3, kills=1, prunes=1), id="kills_and_prunes", marks=pytest.mark.long),
        pytest.param(
            Bounds(writes=2, kills=1, announcements=1), id="kills_and_loads", marks=pytest.mark.long
        ),
        pytest.param(
            Bounds(writes=2, writers=1, kills=1, prunes=1, announcements=1, restores=1),
            id="all",
            marks=pytest.mark.long,
        ),
    ],
)
def test_nothing_goes_wrong_while_all_rules_hold(bounds: Bounds) -> None:
    found = explore(bounds)
    assert found.violation is None, str(found)
    assert found.ends > 0


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_a_rule_that_is_switched_off_is_missed(rule: Rule) -> None:
    found = explore(WHERE[rule], off=rule)
    sys.stdout.write(f"Without the rule that {rule.value}:\n{found}\n")
    assert found.violation is not None
