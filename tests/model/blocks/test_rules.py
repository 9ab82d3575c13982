"""The rules by which a merge changes no count suffice in a small world, and each of them is needed.

That a merger holds the target's row is not among them: without it two of them would wait for each other's rows, and
nothing worse.
"""

import sys

import pytest

from tests.model.blocks.explore import explore
from tests.model.blocks.rules import Rule
from tests.model.blocks.state import Bounds

WORLD = Bounds(kills=2)
PAIRS = Bounds(flushes=((0, 1, 2, 3), (1, 2, 4), (0, 3)), block_cells=2)
"""Blocks of two cells, which a bound may lie within."""
LEVELS = Bounds(flushes=((0, 1), (0,), (1,), (0, 1)))
"""Enough flushes for a merge of merged runs."""
WHERE = {
    Rule.KEEP_REST: PAIRS,
    Rule.LEAST_BOUND: PAIRS,
    Rule.COMPLETE_FIRST: LEVELS,
}


@pytest.mark.timeout(600)  # all of it is computing, which takes as long as the machine is busy
@pytest.mark.parametrize(
    "bounds",
    [pytest.param(WORLD, id="cells"), pytest.param(PAIRS, id="pairs"), pytest.param(LEVELS, id="levels")],
)
def test_every_read_is_what_was_flushed_while_all_rules_hold(bounds: Bounds) -> None:
    found = explore(bounds)
    assert not found.violation, str(found)
    assert found.goals > 0


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_a_rule_that_is_switched_off_is_missed(rule: Rule) -> None:
    found = explore(WHERE.get(rule, WORLD), off=rule)
    sys.stdout.write(f"Without the rule that {rule.value}:\n{found}\n")
    assert found.violation
