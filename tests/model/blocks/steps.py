"""Everything that may happen next."""

from tests.model.blocks.rules import Rule
from tests.model.blocks.state import (
    Block,
    Bounds,
    Cell,
    Merger,
    Run,
    State,
    Steps,
    cells_of,
    encode,
    flushed_by,
    read,
)


def steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    """The steps that are possible, each with the state after it."""
    for what, after in _steps(state, bounds, off):
        yield what, after if after.wrong else after._replace(wrong=_find_wrong(after, bounds))


def _find_wrong(state: State, bounds: Bounds) -> str:
    if read(state, bounds) != flushed_by(state.flushed, bounds):
        return "a read is not what was flushed"
    if any(run.into is not None and state.run(run.into) is None for run in state.runs):
        return "a run goes into one that is not there"
    return ""


def _steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    if state.flushed < len(bounds.flushes) and not state.is_sealed:
        run = Run(state.flushed, 0, encode(cells_of(state.flushed, bounds), bounds.block_cells))
        yield f"flush {state.flushed} is committed", _put(state, run)._replace(flushed=state.flushed + 1)
    if not state.is_sealed and (off is Rule.HOLD_GENERATION or not any(state.mergers)):
        yield "the generation is sealed", state._replace(is_sealed=True)
    yield from _choose(state, bounds, off)
    yield from _reader(state, bounds, off)
    for place, merger in enumerate(state.mergers):
        if merger is None:
            yield from _begin(state, bounds, off, place)
            continue
        if merger.taken is None:
            yield _take(state, off, place, merger)
        else:
            yield f"merger {place} commits", _commit(state, bounds, off, place, merger)
        if state.kills:
            yield f"merger {place} is killed", _set(state, place, None)._replace(kills=state.kills - 1)


def _choose(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    if state.is_sealed:
        return
    for level in sorted({run.level for run in state.runs}):
        free = [
            run
            for run in state.runs
            if run.level == level
            and run.into is None
            and (run.is_complete or off is Rule.COMPLETE_FIRST)
            and not any(merger and merger.target == run.number for merger in state.mergers)
        ]
        if len(free) < bounds.fan_in:
            continue
        chosen, target = free[: bounds.fan_in], state.next_number
        after = state._replace(next_number=target + 1)
        for run in chosen:
            after = _put(after, run._replace(into=target))
        after = _put(after, Run(target, level + 1, (), None, is_complete=False))
        yield f"runs {[run.number for run in chosen]} are to become run {target}", after


def _reader(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    """Of two statements; one of one statement is looked at in every state."""
    if off is not Rule.ONE_STATEMENT:
        return
    if state.listed is None:
        runs = tuple(run.number for run in state.runs)
        yield "a reader finds the runs", state._replace(listed=(state.flushed, runs))
        return
    flushed, runs = state.listed
    found = read(state, bounds, runs)
    allowed = [flushed_by(until, bounds) for until in range(flushed, state.flushed + 1)]
    after = state._replace(listed=None)
    if found not in allowed:
        after = after._replace(wrong="a reader finds what was flushed at no time")
    yield "the reader finds their blocks", after


def _begin(state: State, bounds: Bounds, off: Rule | None, place: int) -> Steps:
    if state.is_sealed and off is not Rule.HOLD_GENERATION:
        return
    for target in state.runs:
        sources = [run for run in state.runs if run.into == target.number]
        held = {merger.target for merger in state.mergers if merger}
        if target.is_complete or held & {target.number, *(run.number for run in sources)}:
            continue
        after_piece = [
            run.blocks[bounds.piece_blocks][0][0] for run in sources if len(run.blocks) > bounds.piece_blocks
        ]
        bound = None
        if after_piece:
            bound = max(after_piece) if off is Rule.LEAST_BOUND else min(after_piece)
        merger = Merger(target.number, tuple(run.number for run in sources), bound)
        yield f"merger {place} holds run {target.number}, below {bound}", _set(state, place, merger)


def _take(state: State, off: Rule | None, place: int, merger: Merger) -> tuple[str, State]:
    taken: list[tuple[int, Block]] = []
    for number in merger.sources:
        run = state.run(number)
        blocks = () if run is None else run.blocks
        if off is Rule.LEAST_BOUND:  # in each source its own piece
            blocks = blocks[:1]
        taken += [(number, block) for block in blocks if merger.bound is None or block[0][0] < merger.bound]
    after = _set(state, place, merger._replace(taken=tuple(taken)))
    if off is Rule.ONE_TRANSACTION:
        after = _without(after, taken)
    return f"merger {place} takes {taken}", after


def _commit(state: State, bounds: Bounds, off: Rule | None, place: int, merger: Merger) -> State:
    taken = merger.taken or ()
    after = _set(_without(state, taken), place, None)
    moved: list[Cell] = []
    for number, block in taken:
        below = [cell for cell in block if merger.bound is None or cell[0] < merger.bound]
        rest = tuple(cell for cell in block if cell not in below)
        moved += below
        if rest and off is not Rule.KEEP_REST:
            after = _add(after, number, (rest,))
    after = _add(after, merger.target, encode(moved, bounds.block_cells))
    for number in merger.sources:
        run = after.run(number)
        if run is not None and not run.blocks:
            after = after._replace(runs=tuple(each for each in after.runs if each.number != number))
    target = after.run(merger.target)
    if target is not None and not any(run.into == merger.target for run in after.runs):
        after = _put(after, target._replace(is_complete=True))
    if state.is_sealed:
        after = after._replace(wrong="a merge writes a sealed generation")
    return after


def _put(state: State, run: Run) -> State:
    others = [each for each in state.runs if each.number != run.number]
    return state._replace(runs=tuple(sorted([*others, run])))


def _add(state: State, number: int, blocks: tuple[Block, ...]) -> State:
    """Insert blocks of a run; where it has no row, nobody will ever find them."""
    run = state.run(number)
    if run is None:
        return state._replace(strays=tuple(sorted((*state.strays, *blocks))))
    return _put(state, run._replace(blocks=tuple(sorted((*run.blocks, *blocks)))))


def _without(state: State, taken: "tuple[tuple[int, Block], ...] | list[tuple[int, Block]]") -> State:
    for number, block in taken:
        run = state.run(number)
        if run is not None:
            state = _put(state, run._replace(blocks=tuple(each for each in run.blocks if each != block)))
    return state


def _set(state: State, place: int, merger: Merger | None) -> State:
    return state._replace(mergers=(*state.mergers[:place], merger, *state.mergers[place + 1 :]))
