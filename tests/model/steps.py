"""What may happen next: each step is what one transaction does, or the begin of one, or a fault."""

from tests.model.faults import fault_steps, lost_transactions_steps
from tests.model.flushes import flush_steps
from tests.model.inserts import insert_steps
from tests.model.recovery import recovery_steps
from tests.model.rules import Rule
from tests.model.state import NO_LOG, Bounds, State, Steps


def steps(state: State, bounds: Bounds, off: Rule | None = None) -> Steps:
    """Everything that may happen next, with one rule switched off, or none."""
    for place, shard in enumerate(state.shards):
        if shard.log != NO_LOG:
            yield from insert_steps(state, bounds, off, place)
            yield from flush_steps(state, bounds, off, place)
            yield from fault_steps(state, bounds, off, place)
    yield from lost_transactions_steps(state, off)
    yield from recovery_steps(state, bounds, off)
