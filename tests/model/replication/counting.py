"""The same for counts (rule 9): a flush writes two levels, and readers at the peer see both of one instant.

The owner has a minute and a total. Flushes raise both, or the total alone (for another minute). The sender reads one
level a page. At every instant what the peer shows is what the owner had after some number of its transactions. In the
end it is what the owner has.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from tests.model.search import Exploration, search

LEVELS = (0, 1)
Levels = tuple[int, ...]


class CountingRule(Enum):
    """A rule, and what it says."""

    ONE_SNAPSHOT = "a pass is read in one snapshot"
    AT_ONCE = "a pass becomes visible at once, and not row by row"
    BEGINS_ANEW = "a pass that was broken off begins from the beginning, and what was staged is dropped"
    LOAD_IS_SHOWN_LATER = "a load becomes visible together with the first pass after it, and not by itself"
    IS_AFTER_LOAD = "that pass begins after the load's last page"
    FROM_BEFORE_LOAD = "that pass begins from the snapshot before the load's first page"
    ONE_LANE = "both levels are one model in one lane"


class Counts(NamedTuple):
    """Everything. `history`: what the owner had after each of its transactions; the last one is now."""

    history: tuple[Levels, ...]
    shown: Levels | None = None
    """what readers at the peer see; None: nothing is here yet"""
    reached: int = -1
    """the transaction that the peer's watermark is at"""
    staged: tuple[int | None, ...] = (None, None)
    """rows of the pass in progress at the peer"""
    loaded: tuple[int | None, ...] = (None, None)
    """rows of the load in progress at the peer"""
    load_from: int = -1
    """the transaction before the load's first page; -1: there is no load"""
    load_next: int = 0
    """the next level that it reads"""
    pass_from: int = -1
    target: int = -1
    """the transaction that the pass reads; -1: there is no pass"""
    pass_next: int = 0
    writes: int = 2
    kills: int = 1


def violation(state: Counts) -> str | None:
    """A mixture, or an end that lacks something."""
    if state.shown is not None and state.shown not in state.history:
        return f"readers see {state.shown}, and the owner has only ever had {state.history}"
    if state.reached == len(state.history) - 1 and state.shown != state.history[-1]:
        return f"the owner has {state.history[-1]}, the peer {state.shown}, and nothing more is sent"
    return None


def steps(state: Counts, off: CountingRule | None) -> Iterator[tuple[str, Counts]]:
    """Everything that may happen next."""
    now = len(state.history) - 1
    if state.writes:
        minute, total = state.history[-1]
        wrote = state._replace(writes=state.writes - 1)
        yield (
            "a flush adds 1 to both levels",
            wrote._replace(history=(*state.history, (minute + 1, total + 1))),
        )
        yield "a flush adds 1 to a new minute", wrote._replace(history=(*state.history, (minute, total + 1)))
    if state.kills and (state.target >= 0 or state.load_from >= 0):
        yield "the stream is cut", _cut(state, off)
    if state.shown is None and state.load_from < 0:
        yield "a load begins", state._replace(load_from=now, load_next=0, loaded=(None, None))
        return
    is_loading = state.load_from >= 0 and state.load_next < len(LEVELS)
    if is_loading:
        yield from _load(state, off)
    if state.target < 0 and (not is_loading or off is CountingRule.IS_AFTER_LOAD):
        came_from = state.load_from if state.load_from >= 0 else state.reached
        if state.load_from >= 0 and off is CountingRule.FROM_BEFORE_LOAD:
            came_from = now
        if now > came_from or state.load_from >= 0:
            yield (
                "a pass begins",
                state._replace(pass_from=came_from, target=now, pass_next=0, staged=(None, None)),
            )
    if state.target >= 0:
        yield from _pass(state, off, now)


def _cut(state: Counts, off: CountingRule | None) -> Counts:
    if off is CountingRule.BEGINS_ANEW and state.target >= 0:
        # It goes on from its cursor, in a snapshot of a new stream.
        return state._replace(target=len(state.history) - 1, kills=state.kills - 1)
    return state._replace(target=-1, pass_next=0, staged=(None, None), kills=state.kills - 1)


def _load(state: Counts, off: CountingRule | None) -> Iterator[tuple[str, Counts]]:
    level = state.load_next
    loaded = _with(state.loaded, level, state.history[-1][level])
    after = state._replace(loaded=loaded, load_next=level + 1)
    if off is CountingRule.LOAD_IS_SHOWN_LATER and after.load_next == len(LEVELS):
        after = after._replace(shown=_filled(loaded))
    yield f"the load reads level {level}", after


def _pass(state: Counts, off: CountingRule | None, now: int) -> Iterator[tuple[str, Counts]]:
    level = state.pass_next
    if level == len(LEVELS):
        if state.load_from >= 0 and state.load_next < len(LEVELS):
            return  # only without the rule: the pass waits for the load
        base = state.loaded if state.load_from >= 0 else state.shown or (None, None)
        merged = tuple(b if s is None else s for s, b in zip(state.staged, base, strict=True))
        yield (
            "the pass is complete, and shown",
            state._replace(
                shown=_filled(merged),
                reached=state.target,
                target=-1,
                staged=(None, None),
                load_from=-1,
                load_next=0,
                loaded=(None, None),
            ),
        )
        return
    at = now if off is CountingRule.ONE_SNAPSHOT else state.target
    before, there = state.history[state.pass_from], state.history[at]
    staged, shown = state.staged, state.shown
    if there[level] != before[level]:
        staged = _with(staged, level, there[level])
        if off is CountingRule.AT_ONCE and shown is not None:
            shown = _filled(_with(shown, level, there[level]))
    after = state._replace(staged=staged, shown=shown, pass_next=level + 1)
    if off is CountingRule.ONE_LANE and shown is not None and state.load_from < 0:
        # A lane for each level: its pass is complete by itself.
        after = after._replace(shown=_filled(_with(shown, level, there[level])))
    yield f"the pass reads level {level}", after


def _with(levels: tuple[int | None, ...], level: int, value: int) -> tuple[int | None, ...]:
    return tuple(value if place == level else old for place, old in enumerate(levels))


def _filled(levels: tuple[int | None, ...]) -> Levels:
    return tuple(each or 0 for each in levels)


def explore_counts(off: CountingRule | None = None, writes: int = 3, kills: int = 1) -> Exploration:
    """Look at every state that can be reached, or until one is wrong."""
    start = Counts(((1, 1),), writes=writes, kills=kills)
    return search(start, lambda state: steps(state, off), violation)
