"""Recovery: open → closed → settled, by anybody, at any time, and by several at once.

One that is frozen, or whose statement is late, is one that goes on later; one that dies is cut off.
"""

from tests.model.flushes import commit_flush, words_of
from tests.model.rules import Rule
from tests.model.state import (
    CLOSED,
    OPEN,
    SETTLED,
    Bounds,
    Flush,
    Position,
    State,
    Steps,
    parts_of,
    put,
    without,
)

PIECE = 1
"""entries that are applied in one transaction"""


def recovery_steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    """What whoever recovers may do next."""
    for log_id in range(1, len(state.logs) + 1):
        yield from _close(state, off, log_id)
        if len(state.recoveries) < bounds.recoveries:
            yield from _read(state, bounds, off, log_id)
    for number, piece in enumerate(state.recoveries):
        rest = state._replace(recoveries=without(state.recoveries, number))
        yield f"a recovery of log {piece.log} is cut off", rest
        is_open = state.logs[piece.log - 1].state == OPEN
        if is_open and off is not Rule.CLOSING:
            continue
        if piece.parts:
            yield f"recovery commits {words_of(piece)}", commit_flush(rest, piece, off)
        if not piece.parts or off is Rule.ALL_PIECES:
            yield f"log {piece.log} is settled", _settled(rest, piece.log)


def _close(state: State, off: Rule | None, log_id: int) -> Steps:
    """A transaction of its own, which passes over a log whose row an insert under way has locked.

    To close the log of a shard that is alive is a mistake, and counts as a fault.
    """
    log = state.logs[log_id - 1]
    is_mistake = any(shard.log == log_id for shard in state.shards)
    if log.state != OPEN or off is Rule.CLOSING or (is_mistake and not state.faults_left):
        return
    inserts = [*state.lost_inserts, *(insert for shard in state.shards for insert in shard.inserts)]
    is_locked = any(insert.log == log_id for insert in inserts)
    if is_locked and off not in (Rule.FOR_UPDATE, Rule.KEY_SHARE):
        return
    closed = _with_state(state, log_id, CLOSED)
    if is_mistake:
        yield f"log {log_id} is closed by mistake", closed._replace(faults_left=state.faults_left - 1)
    else:
        yield f"log {log_id} is closed", closed


def _read(state: State, bounds: Bounds, off: Rule | None, log_id: int) -> Steps:
    """Where the checkpoint is, and the next entries above it, or a part of the next.

    If these were two statements, and it moved between them, the compare and set would tell.
    """
    log = state.logs[log_id - 1]
    if log.state == SETTLED or (log.state == OPEN and off not in (Rule.CLOSE_BEFORE_READ, Rule.CLOSING)):
        return
    above = [entry for entry in state.journal if entry.log == log_id and entry.seq > log.applied.seq]
    if above:
        entries = sorted(above, key=lambda entry: entry.seq)[:PIECE]
        left = parts_of(entries, bounds)
        if off is not Rule.ONLY_THE_REST:
            left = tuple(part for part in left if not log.applied.has(part))
        yield _with_recovery(state, Flush(log_id, log.applied, Position(entries[-1].seq), left))
        if len(left) > 1 and left[1].entry == left[0].entry:
            yield _with_recovery(state, Flush(log_id, log.applied, left[0].end, left[:1]))
    elif log.state == CLOSED:
        yield f"recovery finds nothing left of log {log_id}, and settles it", _settled(state, log_id)
    else:
        yield _with_recovery(state, Flush(log_id, log.applied, log.applied, ()))


def _with_recovery(state: State, piece: Flush) -> tuple[str, State]:
    finds = f"finds nothing left of log {piece.log}" if not piece.parts else f"reads {words_of(piece)}"
    return f"recovery {finds}", state._replace(recoveries=tuple(sorted((*state.recoveries, piece))))


def _settled(state: State, log_id: int) -> State:
    return _with_state(state, log_id, SETTLED)


def _with_state(state: State, log_id: int, name: str) -> State:
    log = state.logs[log_id - 1]
    return state._replace(logs=put(state.logs, log_id - 1, log._replace(state=name)))
