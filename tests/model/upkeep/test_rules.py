"""The rules by which upkeep changes no count suffice in a small world, and each of them is needed."""

import sys

import pytest

from tests.model.upkeep.explore import explore
from tests.model.upkeep.rules import Rule
from tests.model.upkeep.state import Bounds

LOGS = Bounds(flushes=1, rollers=1, replays=0)
"""A log that is opened during a sealing, beside one that flushes."""
ROLLERS = Bounds(logs=1, kills=0)
"""Two roll-ups of two generations, and a replay."""


@pytest.mark.timeout(600)  # all of it is computing, which takes as long as the machine is busy
@pytest.mark.parametrize("bounds", [pytest.param(LOGS, id="logs"), pytest.param(ROLLERS, id="rollers")])
def test_every_read_is_what_was_counted_while_all_rules_hold(bounds: Bounds) -> None:
    found = explore(bounds)
    sys.stdout.write(f"{found}\n")
    assert not found.violation, str(found)
    assert found.goals > 0


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_a_rule_that_is_switched_off_is_missed(rule: Rule) -> None:
    found = explore(LOGS if rule in (Rule.HOLD_IN_OPENING, Rule.CHECK_LATER) else ROLLERS, off=rule)
    sys.stdout.write(f"Without the rule that {rule.value}:\n{found}\n")
    assert found.violation
