"""The end of a log's life in a shard: what is under way stays under way, and nobody waits for it."""

from tests.model.rules import Rule
from tests.model.state import NO_LOG, Bounds, Log, Shard, State, put


def give_up(state: State, bounds: Bounds, off: Rule | None, place: int) -> State:
    """Cut both connections, drop the buffer, open a new log, and let the unanswered wait again."""
    shard = state.shards[place]
    unanswered = (entry.request for insert in shard.inserts for entry in insert.group)
    queue = tuple(sorted((*shard.queue, *unanswered)))
    buffer = shard.buffer if off is Rule.DROPPED_BUFFER else ()
    return _open_next(state, bounds, place, Shard(NO_LOG, queue=queue, buffer=buffer))


def die(state: State, bounds: Bounds, place: int) -> State:
    """The process is killed; another one takes its place, and opens a new log."""
    return _open_next(state, bounds, place, Shard(NO_LOG))


def _open_next(state: State, bounds: Bounds, place: int, shard: Shard) -> State:
    before = state.shards[place]
    state = state._replace(
        lost_inserts=tuple(sorted((*state.lost_inserts, *before.inserts))),
        lost_flushes=tuple(sorted((*state.lost_flushes, *before.flushes))),
    )
    if len(state.logs) == bounds.logs:  # the world ends here: the shard stays away
        return state._replace(shards=put(state.shards, place, Shard(NO_LOG)))
    logs = (*state.logs, Log())
    return state._replace(logs=logs, shards=put(state.shards, place, shard._replace(log=len(logs))))
