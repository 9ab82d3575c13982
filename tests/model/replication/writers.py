"""Writers at the owner. A put draws a version, then writes its row, then is committed; a delete does both at once."""

from tests.model.replication.rules import Rule
from tests.model.replication.state import KEYS, Bounds, Row, State, Steps, Writer, put


def writer_steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    """What the writers may do next."""
    if state.writes and len(state.writers) < bounds.writers:
        for key in KEYS:
            yield from _begin(state, off, key)
    for place, writer in enumerate(state.writers):
        others = (*state.writers[:place], *state.writers[place + 1 :])
        if writer.is_written:
            yield f"transaction {writer.xid} is committed", _commit(state, writer, others)
        elif not any(other.is_written and other.key == writer.key for other in others):
            yield _write(state, off, writer, others)


def _begin(state: State, off: Rule | None, key: str) -> Steps:
    owner = state.owner
    xid, version = owner.next_xid, owner.next_version
    drawn = owner._replace(next_xid=xid + 1, next_version=version + 1)
    begun = state._replace(owner=drawn, writes=state.writes - 1)
    is_shared = all(writer.op == "put" for writer in state.writers)
    if is_shared or off is Rule.LOCATION_LOCK:
        writer = Writer(xid, "put", key, version, False)
        yield (
            f"transaction {xid} puts {key}, and draws version {version}",
            begun._replace(writers=tuple(sorted((*state.writers, writer)))),
        )
    # A delete locks the row first: it finds it, and nobody has it locked.
    is_free = not any(writer.key == key and writer.is_written for writer in state.writers)
    has_row = owner.rows[KEYS.index(key)] is not None
    if has_row and is_free and (not state.writers or off is Rule.LOCATION_LOCK):
        writer = Writer(xid, "delete", key, version, True)
        yield (
            f"transaction {xid} deletes {key} with version {version}",
            begun._replace(writers=tuple(sorted((*state.writers, writer)))),
        )


def _write(state: State, off: Rule | None, writer: Writer, others: tuple[Writer, ...]) -> tuple[str, State]:
    """An insert goes in with what was drawn; an update has locked its row by now, and draws again."""
    owner = state.owner
    is_update = owner.rows[KEYS.index(writer.key)] is not None
    version = writer.version
    if is_update and off is not Rule.VERSION_UNDER_LOCK:
        version = owner.next_version
        owner = owner._replace(next_version=version + 1)
    written = writer._replace(is_written=True, version=version)
    return (
        f"transaction {writer.xid} writes {writer.key} with version {version}",
        state._replace(owner=owner, writers=tuple(sorted((*others, written)))),
    )


def _commit(state: State, writer: Writer, others: tuple[Writer, ...]) -> State:
    owner = state.owner
    row = Row(writer.version, writer.xid)
    buried = owner.tombstones[KEYS.index(writer.key)]
    if writer.op == "delete":
        rows, tombstones = put(owner.rows, writer.key, None), put(owner.tombstones, writer.key, row)
    else:
        rows = put(owner.rows, writer.key, row)
        # The trigger of the insert removes the tombstone that it sees: not one that came after it drew its version.
        is_seen = buried is not None and buried.version < writer.version
        tombstones = put(owner.tombstones, writer.key, None) if is_seen else owner.tombstones
    committed = owner.committed | {writer.xid}
    after = owner._replace(rows=rows, tombstones=tombstones, committed=committed)
    return state._replace(owner=after, writers=others)
