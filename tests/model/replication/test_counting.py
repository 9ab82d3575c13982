"""The rules of counting models suffice in a small world, and each of them is needed (T003-38)."""

import sys

import pytest

from tests.model.replication.counting import CountingRule, explore_counts


def test_readers_see_one_instant_of_the_owner_while_all_rules_hold() -> None:
    found = explore_counts(writes=4, kills=2)
    assert not found.violation, str(found)
    assert found.states > 1000


@pytest.mark.parametrize("rule", CountingRule, ids=lambda rule: rule.name.lower())
def test_a_rule_of_counting_that_is_switched_off_is_missed(rule: CountingRule) -> None:
    found = explore_counts(rule)
    sys.stdout.write(f"Without the rule that {rule.value}:\n{found}\n")
    assert found.violation
