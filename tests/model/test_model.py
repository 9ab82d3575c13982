"""The rules of the design suffice in a small world, and each of them is needed.

The worlds have two shards, three logs, two recoveries at once, and faults of any kind: a kill, a lost connection, the
takeover of a shard that is alive. Two requests, each sent twice, and one fault: 147,367 states. One request that is
sent twice, and three faults: 49,745; with two parts of its entry 212,795, and with two faults 57,306. `python -m
tests.model --help` tells how to search a larger one.
"""

import sys
from collections.abc import Callable

import pytest

from tests.model.explore import explore
from tests.model.rules import Rule
from tests.model.state import Bounds

FOUND = {
    Rule.ONE_ROW_ANSWER: "X is acknowledged and not in the journal",
    Rule.ONE_INSERT: "the rollups are not the journal up to the checkpoints",
    Rule.NEW_LOG_IN_DOUBT: "the rollups are not the journal up to the checkpoints",
    Rule.DROPPED_BUFFER: "the rollups are not the journal up to the checkpoints",
    Rule.CLOSE_BEFORE_READ: "log 1 is settled and X is above its checkpoint",
    Rule.CLOSING: "log 1 is settled and X is above its checkpoint",
    Rule.FOR_UPDATE: "log 1 is settled and X is above its checkpoint",
    Rule.KEY_SHARE: "log 1 is settled and X is above its checkpoint",
    Rule.FENCE: "log 1 is settled and X is above its checkpoint",
    Rule.COMPARE_AND_SET: "an entry is in the rollups twice",
    Rule.COMPARE_PARTS: "an entry is in the rollups twice",
    Rule.ONLY_THE_REST: "an entry is in the rollups twice",
    Rule.ONE_TRANSACTION: "the rollups are not the journal up to the checkpoints",
    Rule.ALL_PIECES: "log 1 is settled and X is above its checkpoint",
    Rule.ACKNOWLEDGE_AFTER_COMMIT: "X is acknowledged and not in the journal",
    Rule.NEW_ENTRIES_ONLY: "the rollups are not the journal up to the checkpoints",
    Rule.PRIMARY_KEY: "a request is in the journal twice",
}
"""What goes wrong first without a rule."""
OF_PARTS = (Rule.COMPARE_PARTS, Rule.ONLY_THE_REST)


@pytest.mark.timeout(600)  # all of it is computing, which takes as long as the machine is busy
@pytest.mark.parametrize(
    ("bounds", "states"),
    [
        pytest.param(
            Bounds(sends=(2, 2), faults=1), 147_367, id="two_requests_one_fault", marks=pytest.mark.long
        ),
        pytest.param(Bounds(sends=(2,), faults=3), 49_745, id="one_request_three_faults"),
        pytest.param(Bounds(sends=(2,), faults=2, parts=2), 57_306, id="parts_two_faults"),
        pytest.param(
            Bounds(sends=(2,), faults=3, parts=2), 212_795, id="parts_three_faults", marks=pytest.mark.long
        ),
    ],
)
def test_nothing_goes_wrong_while_all_rules_hold(
    bounds: Bounds, states: int, record_property: Callable[[str, object], None]
) -> None:
    found = explore(bounds)
    record_property("states", found.states)
    assert found.violation is None, str(found)
    assert found.goals > 0  # some ways were gone to their end
    assert found.states == states


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_a_rule_that_is_switched_off_is_missed(
    rule: Rule, record_property: Callable[[str, object], None]
) -> None:
    found = explore(Bounds(parts=2) if rule in OF_PARTS else Bounds(), off=rule)
    sys.stdout.write(f"Without the rule that {rule.value}:\n{found}\n")
    record_property("states", found.states)
    assert found.violation == FOUND[rule]
