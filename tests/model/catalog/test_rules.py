"""The rules by which nothing hidden is shown suffice in a small world, and each of them is needed.

`python -m tests.model.catalog` tells a way to a breach for each rule that is switched off.
"""

import sys

import pytest

from tests.model.catalog.explore import explore
from tests.model.catalog.rules import Rule
from tests.model.catalog.state import Bounds

WORLD = Bounds()
MOVES = Bounds(
    # The video is in b, which is denied; it is touched; a becomes denied; the video moves to a. It is never shown. With
    # the content of the last change (in a) and the rules before the third (a is allowed) it would be.
    shown=(
        (False, False, False, True),
        (False, False, False, True),
        (False, False, False, False),
        (False, False, False, False),
    ),
    ticks=1,
    lives=1,
)
WHERE = {Rule.ONE_SNAPSHOT: MOVES}
"""The world in which a rule is missed, where it is not the usual one."""


@pytest.mark.timeout(600)  # all of it is computing, which takes as long as the machine is busy
@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param(WORLD, id="a rule"),
        pytest.param(MOVES, id="moves"),
        pytest.param(Bounds(ticks=4, lives=2), id="two lives"),
        pytest.param(Bounds(ticks=9, lives=3), id="longer", marks=pytest.mark.long),
    ],
)
def test_nothing_hidden_is_shown_while_all_rules_hold(bounds: Bounds) -> None:
    """T004-35 to T004-39."""
    found = explore(bounds)
    assert not found.violation, str(found)
    assert found.goals > 0


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_a_rule_that_is_switched_off_is_missed(rule: Rule) -> None:
    """T004-35 to T004-39."""
    found = explore(WHERE.get(rule, WORLD), off=rule)
    sys.stdout.write(f"Without the rule that {rule.value}:\n{found}\n")
    assert found.violation
