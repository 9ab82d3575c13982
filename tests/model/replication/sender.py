"""The owner's end of the stream: passes and loads, a row a page, each read in a snapshot of its own."""

from tests.model.replication.rules import Rule
from tests.model.replication.state import (
    BEHIND,
    CURRENT,
    KEYS,
    LOADING,
    NOTHING,
    Frame,
    Owner,
    Peer,
    Sender,
    Snapshot,
    State,
    Steps,
)


def sender_steps(state: State, off: Rule | None) -> Steps:
    """What the sender may do next."""
    sender = state.sender
    if sender is None:
        yield from _subscribe(state, off)
        return
    if state.pass_frame is None:
        yield from _pass_steps(state, sender, off)
    is_free = state.load_frame is None if off is Rule.ONE_LANE else state.pass_frame is None
    if is_free:
        yield from _load_steps(state, sender, off)


def _subscribe(state: State, off: Rule | None) -> Steps:
    """A new stream, from where the peer's tables say that it is."""
    peer, stream = state.peer, state.next_stream
    begun = state._replace(next_stream=stream + 1, peer=peer._replace(stream=stream, frame=0))
    if peer.word not in state.owner.words and off is not Rule.CLOSING_WORD:
        yield "the peer's closing word is not known: it loads a snapshot", load_snapshot(begun)
        return
    target = None if off is Rule.OWN_CURSOR else peer.target
    sender = Sender(
        stream,
        peer.watermark,
        target,
        peer.cursor,
        peer.state == BEHIND or (peer.state == LOADING and off is Rule.LOADING_IN_PASSES),
        peer.state,
        peer.loaded_to,
        peer.load_key,
        is_loading=peer.state == LOADING,
        is_resumed=target is not None,
    )
    yield f"stream {stream} begins", begun._replace(sender=sender)


def load_snapshot(state: State) -> State:
    """All that is committed, made visible at once, with its watermark and a word."""
    owner = state.owner
    peer = Peer(
        tuple(None if row is None else row.version for row in owner.rows),
        owner.committed,
        state.next_word,
        stream=state.next_stream,
    )
    return state._replace(
        owner=owner._replace(words=owner.words | {state.next_word}),
        peer=peer,
        sender=None,
        pass_frame=None,
        load_frame=None,
        half=None,
        next_stream=state.next_stream + 1,
        next_word=state.next_word + 1,
    )


def _visible(state: State, off: Rule | None) -> Snapshot:
    if off is Rule.WHOLE_SNAPSHOT:  # everything up to the highest that is committed
        return frozenset(range(1, max(state.owner.committed, default=0) + 1))
    return state.owner.committed


def _pass_steps(state: State, sender: Sender, off: Rule | None) -> Steps:
    owner = state.owner
    if sender.target is None:
        target = _visible(state, off)
        if target == sender.watermark:
            return
        yield from _begin_pass(state, sender, target, off)
        return
    if sender.is_resumed:
        frame = Frame(sender.stream, "begin", snapshot=sender.target, word=state.next_word)
        yield "the pass goes on", _with_word(state, sender._replace(is_resumed=False), frame, off)
        return
    is_looked_at = off is Rule.FLOOR or (off is Rule.FLOOR_IN_PAGE and sender.is_checked)
    if not owner.floor <= sender.watermark and not is_looked_at:
        yield "the watermark is below the floor: the peer loads a snapshot", load_snapshot(state)
        return
    checked = sender._replace(is_checked=True)
    found = _next_row(owner, sender)
    if found is None:
        word = state.next_word
        frame = Frame(sender.stream, "close", snapshot=sender.target, word=word)
        after = checked._replace(watermark=sender.target, target=None, cursor=(0, ""), is_checked=False)
        words = owner._replace(words=owner.words | {word})
        yield (
            f"the pass is closed with word {word}",
            _sent(state._replace(owner=words, next_word=word + 1), after, frame),
        )
        return
    changed, key, version, is_gone = found
    frame = Frame(sender.stream, "row", key, version, is_gone, (changed, key))
    what = "tombstone" if is_gone else "row"
    yield (
        f"the pass reads the {what} {key} with version {version}",
        _sent(state, checked._replace(cursor=(changed, key)), frame),
    )


def _begin_pass(state: State, sender: Sender, target: Snapshot, off: Rule | None) -> Steps:
    frame = Frame(sender.stream, "begin", snapshot=target, word=state.next_word)
    leaves_out = sender.state == BEHIND or (sender.is_loading and off is Rule.LOADING_IN_PASSES)
    begun = sender._replace(target=target, is_checked=False, leaves_out=leaves_out)
    yield "a pass begins", _with_word(state, begun, frame, off)
    if state.announcements and not sender.is_loading and sender.cursor == (0, ""):
        announced = begun._replace(
            leaves_out=True,
            state=BEHIND,
            loaded_to=sender.loaded_to if sender.state == BEHIND else sender.watermark,
            load_key="",
        )
        after = _with_word(state, announced, frame._replace(kind="announce"), off)
        yield (
            "a pass begins, and announces the location",
            after._replace(announcements=state.announcements - 1),
        )


def _with_word(state: State, sender: Sender, frame: Frame, off: Rule | None) -> State:
    """The frame goes out with a word that was committed after its rows, or its target, were read."""
    if off is Rule.OPEN_WORDS:
        return _sent(state, sender, frame._replace(word=-1))
    owner = state.owner._replace(words=state.owner.words | {state.next_word})
    return _sent(state._replace(owner=owner, next_word=state.next_word + 1), sender, frame)


def _sent(state: State, sender: Sender, frame: Frame) -> State:
    """The frame is on its way, with the next number."""
    number = sender.frames + 1
    return state._replace(sender=sender._replace(frames=number), pass_frame=frame._replace(number=number))


def _next_row(owner: Owner, sender: Sender) -> tuple[int, str, int, bool] | None:
    target = sender.target or NOTHING
    if sender.leaves_out:
        return None
    found = [
        (row.changed, key, row.version, is_gone)
        for rows, is_gone in ((owner.rows, False), (owner.tombstones, True))
        for key, row in zip(KEYS, rows, strict=True)
        if row is not None and row.changed in target and row.changed not in sender.watermark
    ]
    return min((each for each in found if each[:2] > sender.cursor), default=None)


def _load_steps(state: State, sender: Sender, off: Rule | None) -> Steps:
    """The peer wants what is behind; it asks as soon as it may."""
    if sender.state == BEHIND and state.peer.state == BEHIND and not sender.is_loading:
        loading = sender._replace(is_loading=True, state=LOADING, load_key="", loaded_to=state.peer.loaded_to)
        yield "a load begins", _with_load(state, loading, Frame(sender.stream, "load"), off)
        return
    if not sender.is_loading or state.peer.state != LOADING:
        return
    owner = state.owner
    loaded_to = sender.loaded_to
    if loaded_to is not None and not owner.floor <= loaded_to and off is not Rule.FLOOR_OF_LOADS:
        anew = sender._replace(loaded_to=None, load_key="")
        frame = Frame(sender.stream, "load anew")
        yield "the load is below the floor, and begins anew", _with_load(state, anew, frame, off)
        return
    key = next((each for each in KEYS if each > sender.load_key), None)
    if key is None:
        done = sender._replace(is_loading=False, state=CURRENT)
        yield "the load is complete", _with_load(state, done, Frame(sender.stream, "loaded"), off)
        return
    row, tombstone = owner.rows[KEYS.index(key)], owner.tombstones[KEYS.index(key)]
    frame = Frame(sender.stream, "load nothing", key)
    if loaded_to is None:
        frame = Frame(sender.stream, "load row", key, row.version if row else 0, row is None)
    elif row is not None and row.changed not in loaded_to:
        frame = Frame(sender.stream, "load row", key, row.version)
    elif row is None and tombstone is not None and tombstone.changed not in loaded_to:
        frame = Frame(sender.stream, "load row", key, tombstone.version, True)
    yield f"the load reads {key}", _with_load(state, sender._replace(load_key=key), frame, off)


def _with_load(state: State, sender: Sender, frame: Frame, off: Rule | None) -> State:
    if off is Rule.ONE_LANE:
        number = sender.frames + 1
        return state._replace(
            sender=sender._replace(frames=number), load_frame=frame._replace(word=-1, number=number)
        )
    return _with_word(state, sender, frame._replace(word=state.next_word), off)
