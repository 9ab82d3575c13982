"""The search, breadth first, and the faults: kills, frozen replicas, pruning, backups that are put back."""

from tests.model.replication.receiver import receiver_steps
from tests.model.replication.rules import Rule
from tests.model.replication.sender import sender_steps
from tests.model.replication.state import KEYS, Bounds, State, Steps, find_violation, first, put
from tests.model.replication.writers import writer_steps
from tests.model.search import Exploration, search


def steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    """Everything that may happen next."""
    yield from writer_steps(state, bounds, off)
    yield from sender_steps(state, off)
    yield from receiver_steps(state, off)
    yield from _fault_steps(state, off)


def _fault_steps(state: State, off: Rule | None) -> Steps:
    if state.kills and state.sender is not None:
        dead = state._replace(sender=None, pass_frame=None, load_frame=None, half=None, kills=state.kills - 1)
        yield "the stream is cut: what was on its way is lost", dead
        if state.pass_frame is not None and state.frozen is None:
            frozen = dead._replace(frozen=state.pass_frame)
            yield "the receiver is frozen with a frame in its hands, and another takes the lane", frozen
    if state.prunes:
        yield from _prune(state, off)
    yield from _restore_steps(state)


def _prune(state: State, off: Rule | None) -> Steps:
    owner = state.owner
    for key, tombstone in zip(KEYS, owner.tombstones, strict=True):
        if tombstone is None:
            continue
        floor = owner.floor if off is Rule.FLOOR else owner.floor | {tombstone.changed}
        pruned = owner._replace(tombstones=put(owner.tombstones, key, None), floor=floor)
        yield f"the tombstone of {key} is pruned", state._replace(owner=pruned, prunes=state.prunes - 1)


def _restore_steps(state: State) -> Steps:
    if not state.restores:
        return
    cut = state._replace(sender=None, pass_frame=None, load_frame=None, half=None)
    if state.owner_backup is None and state.peer_backup is None:
        yield "the owner is backed up", state._replace(owner_backup=state.owner)
        yield "the peer is backed up", state._replace(peer_backup=state.peer)
    if state.owner_backup is not None:
        back = cut._replace(owner=state.owner_backup, writers=(), owner_backup=None, restores=0)
        yield "the owner's backup is put back", back
    if state.peer_backup is not None:
        yield (
            "the peer's backup is put back",
            cut._replace(peer=state.peer_backup, peer_backup=None, restores=0),
        )


def explore(bounds: Bounds, off: Rule | None = None) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    return search(first(bounds), lambda state: steps(state, bounds, off), find_violation)
