"""What must hold at every instant, and what when all is over."""

from tests.model.state import OPEN, SETTLED, Bounds, State, parts_of


def find_violation(state: State, bounds: Bounds) -> str | None:
    """What is wrong at this instant, in words."""
    journaled = [entry.request for entry in state.journal]
    if len(set(journaled)) < len(journaled):
        return "a request is in the journal twice"
    for request in state.acknowledged:
        if request not in journaled:
            return f"{request} is acknowledged and not in the journal"
    if len(set(state.rollups)) < len(state.rollups):
        return "an entry is in the rollups twice"
    applied = tuple(
        part for part in parts_of(state.journal, bounds) if state.logs[part.entry.log - 1].applied.has(part)
    )
    if state.rollups != applied:
        return "the rollups are not the journal up to the checkpoints"
    for entry in state.journal:
        log = state.logs[entry.log - 1]
        if log.state == SETTLED and entry.seq > log.applied.seq:
            return f"log {entry.log} is settled and {entry.request} is above its checkpoint"
    return None


def find_violation_at_the_end(state: State, bounds: Bounds) -> str | None:
    """What is wrong when nothing can happen any more."""
    in_use = {shard.log for shard in state.shards}
    for log_id, log in enumerate(state.logs, start=1):
        if log.state != SETTLED and not (log.state == OPEN and log_id in in_use):
            return f"log {log_id} is never settled"
    counted = [(part.entry.request, part.number) for part in state.rollups]
    for request in state.acknowledged:
        for number in range(bounds.parts):
            if (times := counted.count((request, number))) != 1:
                return f"{request} is acknowledged and counted {times} times"
    if len(set(counted)) < len(counted):
        return "a request is counted twice"
    return None
