"""The peer applies a frame: with its cursor and watermark, if it is of the stream in force."""

from tests.model.replication.rules import Rule
from tests.model.replication.state import (
    BEHIND,
    CURRENT,
    KEYS,
    LOADING,
    Frame,
    Peer,
    State,
    Steps,
    put_version,
)


def receiver_steps(state: State, off: Rule | None) -> Steps:
    """What the receiver may do next."""
    if state.half is not None:
        peer = _apply_row(state.peer, state.half)
        yield "the row of the frame follows its cursor", state._replace(peer=peer, half=None)
        return
    if state.pass_frame is not None:
        yield from _apply(state._replace(pass_frame=None), state.pass_frame, off)
    if state.load_frame is not None:
        yield from _apply(state._replace(load_frame=None), state.load_frame, off)
    if state.frozen is not None:
        frozen = state.frozen
        woken = state._replace(frozen=None)
        if _is_next(state.peer, frozen) or off is Rule.NEXT_FRAME:
            for what, after in _apply(woken, frozen, off):
                yield f"a frozen replica wakes: {what}", after
        else:
            yield "a frozen replica wakes, and is refused", woken


def _apply(state: State, frame: Frame, off: Rule | None) -> Steps:
    peer = state.peer
    what = f"the peer applies {frame.kind} {frame.key}".rstrip()
    if frame.kind == "row" and off is Rule.ONE_TRANSACTION:
        first = peer._replace(cursor=frame.cursor, frame=frame.number)
        yield f"{what}, first its cursor", state._replace(peer=first, half=frame)
        return
    yield what, state._replace(peer=_applied(peer, frame, off))


def _is_next(peer: Peer, frame: Frame) -> bool:
    return (frame.stream, frame.number) == (peer.stream, peer.frame + 1)


def _applied(peer: Peer, frame: Frame, off: Rule | None) -> Peer:  # noqa: C901 - a case for each kind of frame
    peer = peer._replace(frame=frame.number)
    if frame.word >= 0:
        peer = peer._replace(word=frame.word)
    match frame.kind:
        case "begin" | "announce":
            if frame.snapshot != peer.target:
                is_other = off is Rule.OWN_CURSOR
                peer = peer._replace(target=frame.snapshot, cursor=peer.cursor if is_other else (0, ""))
            if off is Rule.WATERMARK_AT_THE_END:
                peer = peer._replace(watermark=frame.snapshot)
            if frame.kind == "announce" and off is not Rule.BEHIND:
                loaded_to = peer.loaded_to if peer.state == BEHIND else peer.watermark
                peer = peer._replace(state=BEHIND, loaded_to=loaded_to, load_key="")
            return peer
        case "row":
            return _apply_row(peer._replace(cursor=frame.cursor), frame)
        case "close":
            return peer._replace(watermark=frame.snapshot, target=None, cursor=(0, ""))
        case "load":
            return peer._replace(state=LOADING, load_key="")
        case "load anew":
            return peer._replace(loaded_to=None, load_key="")
        case "load row":
            is_all = peer.loaded_to is None
            return _apply_row(peer._replace(load_key=frame.key), frame, replaces=is_all)
        case "load nothing":
            return peer._replace(load_key=frame.key)
        case _:
            return peer._replace(state=CURRENT, loaded_to=None, load_key="")


def _apply_row(peer: Peer, frame: Frame, *, replaces: bool = False) -> Peer:
    here = peer.rows[KEYS.index(frame.key)]
    if frame.is_gone:
        is_newer = replaces or here is None or here < frame.version
        return peer._replace(rows=put_version(peer.rows, frame.key, None)) if is_newer else peer
    if here is not None and here >= frame.version:
        return peer
    return peer._replace(rows=put_version(peer.rows, frame.key, frame.version))
