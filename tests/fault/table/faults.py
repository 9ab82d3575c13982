"""The table: every fault, and what must hold beyond the invariants."""

from tests.fault.table.scene import Fault
from tests.fault.table.strikes import kills

FAULTS = (
    Fault(
        "kill -9 of a counting process",
        kills.kill_shard,
        recovered_within_seconds=15.0,
    ),
)
