"""The flush: a transaction that moves the checkpoint and adds what is in the buffer to the rollups.

It is two steps. It begins: the shard takes the buffer and the cut. It ends: it is committed, and the shard is told. A
second one waits for the first at the row of the checkpoint and then looks again, so it is the commit that counts. What
is too large for one transaction is added by several, whose ends may lie within an entry.
"""

from collections.abc import Iterator

from tests.model.logs import give_up
from tests.model.rules import Rule
from tests.model.state import Bounds, Flush, Part, Position, Shard, State, Steps, name_of, put, with_shard


def flush_steps(state: State, bounds: Bounds, off: Rule | None, place: int) -> Steps:
    """What a shard and its connection for flushes may do next."""
    shard = state.shards[place]
    if not shard.flushes and Position(shard.cut) != shard.applied:
        for end in _ends(shard, bounds):
            taken = tuple(part for part in shard.buffer if end.has(part))
            rest = tuple(part for part in shard.buffer if not end.has(part))
            flush = Flush(shard.log, shard.applied, end, taken)
            after = with_shard(state, place, flushes=(flush,), buffer=rest)
            yield f"{name_of(place)} sends {words_of(flush)}", after
    for flush in shard.flushes:
        after = commit_flush(state, flush, off)
        if after is state:
            yield (
                f"{name_of(place)} is told that log {shard.log} is not at {words_at(flush.start)}, and gives it up",
                give_up(state, bounds, off, place),
            )
        else:
            yield (
                f"{name_of(place)}'s flush is committed",
                with_shard(after, place, flushes=(), applied=flush.end),
            )


def _ends(shard: Shard, bounds: Bounds) -> Iterator[Position]:
    """Where a flush may end: after everything, or within an entry."""
    yield Position(shard.cut)
    for part in shard.buffer:
        if part.number + 1 < bounds.parts:
            yield part.end


def commit_flush(state: State, flush: Flush, off: Rule | None) -> State:
    """The transaction of flushes, and of recovery; the same state when the checkpoint is elsewhere."""
    log = state.logs[flush.log - 1]
    is_there = log.applied == flush.start
    if off is Rule.COMPARE_PARTS:
        is_there = log.applied.seq == flush.start.seq
    if not is_there and off is not Rule.COMPARE_AND_SET:
        return state
    logs = put(state.logs, flush.log - 1, log._replace(applied=flush.end))
    if off is Rule.ONE_TRANSACTION:
        return state._replace(logs=logs)  # the other one may never come
    return state._replace(logs=logs, rollups=tuple(sorted((*state.rollups, *flush.parts))))


def words_of(flush: Flush) -> str:
    """For a trace."""
    added = " and ".join(map(words_of_part, flush.parts)) or "nothing"
    return (
        f"a flush of log {flush.log} from {words_at(flush.start)} to {words_at(flush.end)} that adds {added}"
    )


def words_of_part(part: Part) -> str:
    """X, or X.1 for a part that is not the first."""
    return part.entry.request + (f".{part.number}" if part.number else "")


def words_at(position: Position) -> str:
    """2, or 2.1 within an entry."""
    return str(position.seq) + (f".{position.parts}" if position.parts else "")
