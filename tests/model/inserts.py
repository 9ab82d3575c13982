"""The group commit: one insert after the other, each telling in one row whether its log was open.

An insert is two steps. It begins: it looks at the log, and locks its row. It ends: it is committed, and the shard
is told.
"""

from tests.model.clients import Arrival, arrivals
from tests.model.logs import give_up
from tests.model.rules import Rule
from tests.model.state import (
    OPEN,
    Bounds,
    Entry,
    Insert,
    State,
    Steps,
    name_of,
    parts_of,
    requests_of,
    with_shard,
    without,
)


def insert_steps(state: State, bounds: Bounds, off: Rule | None, place: int) -> Steps:
    """What a shard and its connection for inserts may do next."""
    shard = state.shards[place]
    if len(shard.inserts) < (2 if off is Rule.ONE_INSERT else 1):
        for arrival in arrivals(state.sends_left, bounds, place):
            if shard.queue or arrival.requests:
                yield _begin(state, bounds, off, place, arrival)
    for number, insert in enumerate(shard.inserts):
        yield _end(state, bounds, off, place, number, insert)


def _begin(state: State, bounds: Bounds, off: Rule | None, place: int, arrival: Arrival) -> tuple[str, State]:
    """What has arrived, or waits again, becomes a group."""
    shard = state.shards[place]
    requests = sorted((*shard.queue, *arrival.requests))
    state = state._replace(sends_left=arrival.sends_left)
    group = tuple(
        Entry(request, shard.log, seq) for seq, request in enumerate(requests, start=shard.last_seq + 1)
    )
    insert = Insert(shard.log, group)
    after = with_shard(state, place, queue=(), last_seq=group[-1].seq, inserts=(*shard.inserts, insert))
    does = f"{name_of(place)} inserts {requests_of(group)} into log {shard.log}"
    if state.logs[shard.log - 1].state == OPEN or off is Rule.FENCE:
        if off is Rule.ACKNOWLEDGE_AFTER_COMMIT:
            return f"{does}, and acknowledges at once", _acknowledge(after, group)
        return does, after
    if off is Rule.ONE_ROW_ANSWER:
        return (
            f"{does}; nothing is inserted, and all of it acknowledged as duplicate",
            _take_answer(after, bounds, off, place, 0, insert, ()),
        )
    waiting = with_shard(state, place, queue=tuple(requests))
    return f"{does}; is told that it was closed, and gives it up", give_up(waiting, bounds, off, place)


def _end(
    state: State, bounds: Bounds, off: Rule | None, place: int, number: int, insert: Insert
) -> tuple[str, State]:
    inserted, after = commit_insert(state, insert, off)
    does = f"{name_of(place)}'s insert of {requests_of(insert.group)} is committed, and acknowledged"
    found = f"{requests_of(inserted) or 'nothing'} is new"
    return f"{does}: {found}", _take_answer(after, bounds, off, place, number, insert, inserted)


def commit_insert(state: State, insert: Insert, off: Rule | None) -> tuple[tuple[Entry, ...], State]:
    """The entries that were inserted, of each key the first; and what there is then.

    That an insert waits for another one with the same key, and then finds it there or not, is the same as
    coming after it.
    """
    there = {entry.request for entry in state.journal}
    inserted: list[Entry] = []
    for entry in insert.group:
        if entry.request not in there or off is Rule.PRIMARY_KEY:
            inserted.append(entry)
            there.add(entry.request)
    return tuple(inserted), state._replace(journal=tuple(sorted((*state.journal, *inserted))))


def _take_answer(
    state: State,
    bounds: Bounds,
    off: Rule | None,
    place: int,
    number: int,
    insert: Insert,
    inserted: tuple[Entry, ...],
) -> State:
    shard = state.shards[place]
    new = insert.group if off is Rule.NEW_ENTRIES_ONLY else inserted
    after = with_shard(
        state,
        place,
        inserts=without(shard.inserts, number),
        buffer=tuple(sorted((*shard.buffer, *parts_of(new, bounds)))),
        cut=insert.group[-1].seq,
    )
    return _acknowledge(after, insert.group)


def _acknowledge(state: State, group: tuple[Entry, ...]) -> State:
    requests = {*state.acknowledged, *(entry.request for entry in group)}
    return state._replace(acknowledged=tuple(sorted(requests)))
