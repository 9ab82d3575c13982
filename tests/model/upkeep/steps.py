"""Everything that may happen next."""

from tests.model.upkeep.rules import Rule
from tests.model.upkeep.state import (
    NEWEST,
    Bounds,
    Event,
    Generation,
    Log,
    Piece,
    Sealing,
    State,
    Steps,
    counted,
    read,
)


def steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    """The steps that are possible, each with the state after it."""
    for what, after in _steps(state, bounds, off):
        yield what, after if after.wrong else after._replace(wrong=_find_wrong(after, off))


def _find_wrong(state: State, off: Rule | None) -> str:
    marks = [0 if off is Rule.BEYOND_THE_MARK else each.rolled_to for each in state.generations]
    if read(state.generations, marks, state.grains) != counted(state):
        return "a read is not what was counted"
    return ""


def _steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    yield from _openings(state, off)
    yield from _flushes(state, bounds)
    yield from _replay(state, off)
    yield from _sealing(state, off)
    yield from _reader(state, off)
    for place, piece in enumerate(state.pieces):
        yield from _roll_up(state, bounds, off, place, piece)
    if state.kills:
        left = state._replace(kills=state.kills - 1)
        if state.sealing:
            yield "the sealing is killed", left._replace(sealing=None)
        for place, piece in enumerate(state.pieces):
            if piece:
                yield f"roll-up {place} is killed", _set_piece(left, place, None)


def _openings(state: State, off: Rule | None) -> Steps:
    newest = len(state.generations) - 1
    for place, log in enumerate(state.logs):
        if log.checkpoint is not None:
            continue
        if log.chosen is not None:
            yield f"the opening of log {place} commits", _set_log(state, place, Log(checkpoint=log.chosen))
        elif not (_is_locked(state, newest) and off is not Rule.HOLD_IN_OPENING):
            yield (
                f"the opening of log {place} chooses {newest}",
                _set_log(state, place, log._replace(chosen=newest)),
            )


def _flushes(state: State, bounds: Bounds) -> Steps:
    for place, log in enumerate(state.logs):
        if log.flushing is not None:
            event = (log.flushed % bounds.videos, f"{place}.{log.flushed}")
            after = _add(state, log.flushing, event)
            done = log._replace(flushing=None, flushed=log.flushed + 1)
            yield f"the flush of log {place} commits", _set_log(after, place, done)
        elif log.checkpoint is not None and log.flushed < bounds.flushes:
            begun = log._replace(flushing=log.checkpoint)
            yield f"a flush of log {place} writes generation {log.checkpoint}", _set_log(state, place, begun)


def _replay(state: State, off: Rule | None) -> Steps:
    if state.replaying is not None:
        after = _add(state, state.replaying, (0, "letter"))
        yield "the replay commits", after._replace(replaying=None, replays=state.replays - 1)
    elif state.replays:
        newest = len(state.generations) - 1
        if not (_is_locked(state, newest) and off is not Rule.HOLD_IN_REPLAY):
            yield f"a replay chooses generation {newest}", state._replace(replaying=newest)


def _sealing(state: State, off: Rule | None) -> Steps:
    newest = len(state.generations) - 1
    if newest < NEWEST and all(each.is_sealed for each in state.generations[:-1]):
        yield (
            f"generation {newest + 1} is made",
            state._replace(generations=(*state.generations, Generation())),
        )
    for place, log in enumerate(state.logs):
        if log.checkpoint is not None and log.checkpoint < newest and log.flushing is None:
            yield (
                f"the checkpoint of log {place} is moved",
                _set_log(state, place, log._replace(checkpoint=newest)),
            )
    if state.sealing is None:
        yield from _begin_sealing(state, off)
    else:
        yield from _go_on_sealing(state, off, state.sealing)


def _begin_sealing(state: State, off: Rule | None) -> Steps:
    for number, each in enumerate(state.generations[:-1]):
        if each.is_sealed:
            continue
        if off is Rule.CHECK_LATER:  # the snapshot of one statement that locks and checks
            clear = _is_clear(state, number, off)
            yield f"sealing of {number} checks", state._replace(sealing=Sealing(number, False, clear))
        elif not _is_held(state, number, off):
            yield f"sealing of {number} locks it", state._replace(sealing=Sealing(number, True))


def _go_on_sealing(state: State, off: Rule | None, sealing: Sealing) -> Steps:
    if not sealing.is_locked:
        if not _is_held(state, sealing.generation, off):
            yield "sealing has the lock", state._replace(sealing=sealing._replace(is_locked=True))
    elif sealing.is_clear is None:
        clear = _is_clear(state, sealing.generation, off)
        yield "sealing checks", state._replace(sealing=sealing._replace(is_clear=clear))
    elif sealing.is_clear:
        sealed = state.generations[sealing.generation]._replace(is_sealed=True)
        yield "sealing commits", _set_generation(state._replace(sealing=None), sealing.generation, sealed)
    else:
        yield "sealing gives up", state._replace(sealing=None)


def _roll_up(state: State, bounds: Bounds, off: Rule | None, place: int, piece: Piece | None) -> Steps:
    if piece is None:
        for number, each in enumerate(state.generations):
            if (each.is_sealed or off is Rule.SEALED_ONLY) and each.rolled_to < bounds.videos:
                taken = tuple(event for event in each.minutes if event[0] == each.rolled_to)
                begun = Piece(number, each.rolled_to, taken)
                yield (
                    f"roll-up {place} reads video {each.rolled_to} of {number}",
                    _set_piece(state, place, begun),
                )
        return
    generation = state.generations[piece.generation]
    moved = generation._replace(rolled_to=piece.video + 1)
    if off is Rule.MARK_WITH_DATA:
        if piece.is_half:
            after = state._replace(grains=tuple(sorted((*state.grains, *piece.taken))))
            yield f"roll-up {place} commits its data", _set_piece(after, place, None)
            return
        if generation.rolled_to == piece.video:
            after = _set_generation(state, piece.generation, moved)
            yield f"roll-up {place} commits its mark", _set_piece(after, place, piece._replace(is_half=True))
            return
    elif generation.rolled_to == piece.video or off is Rule.COMPARE_AND_SET:
        after = state._replace(grains=tuple(sorted((*state.grains, *piece.taken))))
        after = _set_generation(after, piece.generation, moved)
        yield f"roll-up {place} commits", _set_piece(after, place, None)
        return
    yield f"roll-up {place} finds the mark moved", _set_piece(state, place, None)


def _reader(state: State, off: Rule | None) -> Steps:
    """Of two statements; one of one statement is looked at in every state."""
    if off is not Rule.ONE_STATEMENT:
        return
    if state.listed is None:
        marks = tuple(each.rolled_to for each in state.generations)
        yield "a reader finds the grains", state._replace(listed=(counted(state), marks, state.grains))
        return
    before, _, grains = state.listed
    found = read(state.generations, [each.rolled_to for each in state.generations], grains)
    after = state._replace(listed=None)
    if not set(before) <= set(found):
        after = after._replace(wrong="a reader lacks what was counted before it began")
    yield "the reader finds the minutes", after


def _is_clear(state: State, generation: int, off: Rule | None) -> bool:
    return off is Rule.MOVE_CHECKPOINTS or all(log.checkpoint != generation for log in state.logs)


def _is_held(state: State, generation: int, off: Rule | None) -> bool:
    opening = off is not Rule.HOLD_IN_OPENING and any(log.chosen == generation for log in state.logs)
    return opening or (off is not Rule.HOLD_IN_REPLAY and state.replaying == generation)


def _is_locked(state: State, generation: int) -> bool:
    return state.sealing is not None and state.sealing.is_locked and state.sealing.generation == generation


def _add(state: State, generation: int, event: Event) -> State:
    each = state.generations[generation]
    after = _set_generation(state, generation, each._replace(minutes=tuple(sorted((*each.minutes, event)))))
    return after._replace(wrong="a sealed generation is written") if each.is_sealed else after


def _set_generation(state: State, place: int, generation: Generation) -> State:
    others = state.generations
    return state._replace(generations=(*others[:place], generation, *others[place + 1 :]))


def _set_log(state: State, place: int, log: Log) -> State:
    return state._replace(logs=(*state.logs[:place], log, *state.logs[place + 1 :]))


def _set_piece(state: State, place: int, piece: Piece | None) -> State:
    return state._replace(pieces=(*state.pieces[:place], piece, *state.pieces[place + 1 :]))
