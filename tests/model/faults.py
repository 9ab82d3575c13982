"""Processes that die, connections that are lost, and what then still happens in Postgres."""

from tests.model.flushes import commit_flush, words_of
from tests.model.inserts import commit_insert
from tests.model.logs import die, give_up
from tests.model.rules import Rule
from tests.model.state import Bounds, State, Steps, name_of, requests_of, with_shard, without


def fault_steps(state: State, bounds: Bounds, off: Rule | None, place: int) -> Steps:
    """What may befall a shard."""
    if not state.faults_left:
        return
    shard, after = state.shards[place], state._replace(faults_left=state.faults_left - 1)
    yield f"{name_of(place)} is killed, and starts again", die(after, bounds, place)
    if off is not Rule.NEW_LOG_IN_DOUBT:
        if shard.inserts or shard.flushes:
            yield (
                f"{name_of(place)} loses its connections, and gives log {shard.log} up",
                give_up(after, bounds, off, place),
            )
    elif shard.inserts:
        yield (
            f"{name_of(place)} loses the connection of its insert, and goes on with log {shard.log}",
            _go_on(after, place),
        )


def _go_on(state: State, place: int) -> State:
    """Against the rule: the group waits again, for another insert into the same log."""
    shard = state.shards[place]
    [insert, *others] = shard.inserts
    queue = tuple(sorted((*shard.queue, *(entry.request for entry in insert.group))))
    after = with_shard(state, place, queue=queue, inserts=tuple(others))
    return after._replace(lost_inserts=tuple(sorted((*state.lost_inserts, insert))))


def lost_transactions_steps(state: State, off: Rule | None) -> Steps:
    """What nobody waits for may be committed late, or not at all."""
    for number, insert in enumerate(state.lost_inserts):
        without_it = state._replace(lost_inserts=without(state.lost_inserts, number))
        what = f"the lost insert of {requests_of(insert.group)} into log {insert.log}"
        yield f"{what} is committed late", commit_insert(without_it, insert, off)[1]
        yield f"{what} is rolled back", without_it
    for number, flush in enumerate(state.lost_flushes):
        without_it = state._replace(lost_flushes=without(state.lost_flushes, number))
        yield f"late, {words_of(flush)} ends", commit_flush(without_it, flush, off)
        yield f"{words_of(flush)} is rolled back", without_it
