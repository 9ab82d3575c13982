"""The flush: a transaction that moves the checkpoint and adds what is in the buffer to the rollups.

It is two steps. It begins: the shard takes the buffer and the cut. It ends: it is committed, and the shard is told. A
second one waits for the first at the row of the checkpoint and then looks again, so it is the commit that counts.
"""

from tests.model.logs import give_up
from tests.model.rules import Rule
from tests.model.state import Bounds, Flush, State, Steps, name_of, put, with_shard


def flush_steps(state: State, bounds: Bounds, off: Rule | None, place: int) -> Steps:
    """What a shard and its connection for flushes may do next."""
    shard = state.shards[place]
    if not shard.flushes and shard.cut != shard.applied_seq:
        flush = Flush(shard.log, shard.applied_seq, shard.cut, shard.buffer)
        yield (
            f"{name_of(place)} sends {words_of(flush)}",
            with_shard(state, place, flushes=(flush,), buffer=()),
        )
    for flush in shard.flushes:
        after = commit_flush(state, flush, off)
        if after is state:
            yield (
                f"{name_of(place)} is told that log {shard.log} is not at {flush.from_seq}, and gives it up",
                give_up(state, bounds, off, place),
            )
        else:
            yield (
                f"{name_of(place)}'s flush is committed",
                with_shard(after, place, flushes=(), applied_seq=flush.to_seq),
            )


def commit_flush(state: State, flush: Flush, off: Rule | None) -> State:
    """The transaction of flushes, and of recovery; the same state when the checkpoint is elsewhere."""
    log = state.logs[flush.log - 1]
    if log.applied_seq != flush.from_seq and off is not Rule.COMPARE_AND_SET:
        return state
    logs = put(state.logs, flush.log - 1, log._replace(applied_seq=flush.to_seq))
    if off is Rule.ONE_TRANSACTION:
        return state._replace(logs=logs)  # the other one may never come
    return state._replace(logs=logs, rollups=tuple(sorted((*state.rollups, *flush.entries))))


def words_of(flush: Flush) -> str:
    """For a trace."""
    added = " and ".join(entry.request for entry in flush.entries) or "nothing"
    return f"a flush of log {flush.log} from {flush.from_seq} to {flush.to_seq} that adds {added}"
