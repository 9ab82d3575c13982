"""Everything that may happen next."""

from tests.model.catalog.rules import Rule
from tests.model.catalog.state import Bounds, Put, Query, Row, State, Steps, View, shows


def steps(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    """The steps that are possible, each with the state after it."""
    if state.now < bounds.ticks:
        yield "time passes", state._replace(now=state.now + 1)
    yield from _writer(state, bounds, off)
    yield from _life(state, off)
    yield from _question(state, off)
    yield from _application(state, bounds, off)
    yield from _find(state, bounds, off)
    yield from _sweep(state, bounds)


def _writer(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    if state.change < bounds.last_change - 1:
        yield "somebody else writes", state._replace(change=state.change + 1)
        return
    if off is Rule.LIST_AFTER_COMMIT and state.put is Put.UNSENT:
        yield (
            "PutRules lists the replicas",
            state._replace(put=Put.LISTED, was_listed=state.row is not None),
        )
    elif state.put in (Put.UNSENT, Put.LISTED):
        yield "PutRules commits", state._replace(put=Put.WAITING, change=bounds.last_change)
    if state.put is Put.WAITING:
        if off is Rule.WAIT_WHEN_REPEATED:
            yield "PutRules is sent again, finds nothing to change, and returns", _returned(state)
        if _is_in_force(state, bounds, off):
            yield "PutRules returns", _returned(state)


def _returned(state: State) -> State:
    return state._replace(put=Put.RETURNED, was_listed=False)


def _is_in_force(state: State, bounds: Bounds, off: Rule | None) -> bool:
    row = state.row
    if off is Rule.LIST_AFTER_COMMIT and not state.was_listed:
        return True
    if row is None or row.applied >= bounds.last_change:
        return True
    staleness = bounds.own_staleness if off is Rule.OWN_STALENESS else bounds.staleness
    allowance = 0 if off is Rule.ALLOWANCE else bounds.drift
    return row.asked_at + staleness + allowance < state.now


def _life(state: State, off: Rule | None) -> Steps:
    if state.view is None and state.lives:
        view = View(state.change, state.change)
        loaded = state._replace(view=view, lives=state.lives - 1, pending=None, fresh_at=None)
        if off is Rule.ASK_AFTER_REGISTERING:
            loaded = loaded._replace(fresh_at=state.now)
        yield "the replica reads the record", loaded
    if state.view is not None and not state.is_registered and state.query is None:
        row = Row(state.now, state.view.change)
        registered = state._replace(row=row, is_registered=True)
        if off is not Rule.ASK_AFTER_REGISTERING:
            registered = registered._replace(pending=None, fresh_at=None)
        yield "the replica registers", registered
    if state.view is not None and state.is_registered:
        if off is Rule.STOP_BEFORE_LEAVING:
            yield "the replica takes its row along, and answers a last time", state._replace(row=None)
        else:
            yield "the replica stops in order", _begun_anew(state)._replace(row=None, view=None, find=None)


def _begun_anew(state: State) -> State:
    return state._replace(is_registered=False, query=None, pending=None, fresh_at=None)


def _question(state: State, off: Rule | None) -> Steps:
    if state.view is None or not state.is_registered:
        return
    query = state.query
    if query is None:
        told = state.change if off is Rule.TWO_STATEMENTS else None
        yield "the replica sends its question", state._replace(query=Query(state.now, told=told))
    elif not query.is_renewed:
        if state.row is not None:
            row = Row(state.now, state.view.change)
            yield "its row is renewed", state._replace(row=row, query=query._replace(is_renewed=True))
        elif off is Rule.ROW_GONE:
            yield "there is no row to renew", state._replace(query=query._replace(is_renewed=True))
        else:
            yield "its row is gone: it begins anew", _begun_anew(state)._replace(view=None, find=None)
    elif query.told is None:
        yield "the newest change is read", state._replace(query=query._replace(told=state.change))
    else:
        sent_at = state.now if off is Rule.FROM_THE_SENDING else query.sent_at
        answered = state._replace(query=None, pending=(sent_at, query.told))
        yield "the replica has the answer", _freshened(answered, off)


def _freshened(state: State, off: Rule | None) -> State:
    if state.pending is None or state.view is None:
        return state
    sent_at, told = state.pending
    if told <= state.view.change or off is Rule.ONCE_APPLIED:
        return state._replace(fresh_at=sent_at)
    return state


def _application(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    view = state.view
    if view is None or view.change == state.change:
        return
    after = View(view.change + 1 if off is Rule.ONE_SNAPSHOT else state.change, state.change)
    applied = _freshened(state._replace(view=after), off)
    if (
        shows(after, bounds)
        != bounds.shown[after.change][min(after.change, len(bounds.shown[after.change]) - 1)]
    ):
        applied = applied._replace(wrong="a view shows what no snapshot of the record has shown")
    yield f"the replica applies changes up to {after.change}", applied


def _is_fresh(state: State, bounds: Bounds) -> bool:
    """By a clock that may be slow."""
    return state.fresh_at is not None and state.now - state.fresh_at <= bounds.staleness + bounds.drift


def _find(state: State, bounds: Bounds, off: Rule | None) -> Steps:
    if state.view is None:
        return
    if state.find is None:
        if _is_fresh(state, bounds):
            yield "a find begins", state._replace(find=shows(state.view, bounds))
        return
    is_shown = state.find if off is Rule.CHECK_AT_LEAVING else state.find and shows(state.view, bounds)
    if not _is_fresh(state, bounds) and off is not Rule.STALE_AT_LEAVING:
        yield "the answer is refused as stale", state._replace(find=None)
        return
    left = state._replace(find=None)
    if is_shown and state.put is Put.RETURNED:
        left = left._replace(wrong="an answer shows the video after PutRules has returned")
    yield "the answer leaves", left


def _sweep(state: State, bounds: Bounds) -> Steps:
    """After an hour, which is a tick here: its replica must refuse by then."""
    row = state.row
    if row is not None and row.asked_at + bounds.staleness + bounds.drift < state.now:
        yield "the row is swept", state._replace(row=None)
