"""Strong reads: the rollups, and the journal's entries that are not in them yet, in one snapshot."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from libs.domain.cells import Cell, cells_of_events
from libs.domain.events import Events
from libs.domain.minutes import MINUTE_US
from libs.rpc.columns import parse
from services.query.generations import KNOWN
from services.query.question import Question, Size, TooHeavy
from services.query.standby import replayed_until_us
from services.query.unsettled import JOURNAL_SINCE, Unsettled
from services.query.warm import BLOCK, CELL, Reading, fetch_row, read_cell
from tally.contract.errors import InvalidRequest, NotPrimary
from tally.contract.rules import NO_TIME

# By number, never by time. No unapplied entry is below the opening floor of its log.
_READ = f"""
with {CELL}, {BLOCK}, {KNOWN}, pending as materialized (
    select payload, events, (extract(epoch from received_at) * 1000000)::bigint as received_at_us,
        case when seq = split_seq then applied_events else 0 end as applied_events
    from counting.log join counting.checkpoint using (log_id) join counting.journal using (log_id)
    where state <> 'settled' and seq > applied_seq and request_id >= opening_floor and partition = $8
        and request_id >= {{since}}
), much as (
    select coalesce(sum(events), 0)::bigint as pending_events from pending
)
select total.*, m2, known.*, bodies, generations, are_too_many, pending_events, {JOURNAL_SINCE},
    (extract(epoch from now()) * 1000000)::bigint as as_of_us,
    array(select payload from pending where pending_events <= $9) as payloads,
    array(select received_at_us from pending where pending_events <= $9) as received_at_us,
    array(select applied_events from pending where pending_events <= $9) as applied_events
from total, spread, blocks, known, much"""

_IN_THREAD_EVENTS = 20_000
"""So many events take the event loop a few milliseconds; more are added up in a thread."""


async def read_everything(
    connection: Any, unsettled: Unsettled, question: Question, size: Size, partition: int
) -> Reading:
    """Everything that was journaled before the call. Raises TooHeavy, and NotPrimary on a standby."""
    if await replayed_until_us(connection) is not None:
        raise NotPrimary(
            "strong reads need the primary, and this query service reads from a standby. Set "
            "TALLY_QUERY__PRIMARY_DSN to a DSN of the primary, or read without CONSISTENCY_STRONG"
        )
    row = await fetch_row(connection, unsettled, _READ, question, size, partition, size.pending_events)
    if row["is_too_heavy"] or row["are_too_many"] or row["pending_events"] > size.pending_events:
        raise TooHeavy(row["pending_events"])
    cell = await read_cell(row, question)
    entries = list(zip(row["payloads"], row["received_at_us"], row["applied_events"], strict=True))
    if row["pending_events"] > _IN_THREAD_EVENTS:
        pending = await asyncio.to_thread(_cell_of_entries, entries, question)
    else:
        pending = _cell_of_entries(entries, question)
    return Reading(cell.merge(pending), row["as_of_us"])


def _cell_of_entries(entries: Sequence[tuple[bytes, int, int]], question: Question) -> Cell:
    cell = Cell()
    for events, received_at_us in _decoded(entries):
        cell = cell.merge(_cell_in(events, received_at_us, question))
    return cell


def _decoded(entries: Iterable[tuple[bytes, int, int]]) -> Iterable[tuple[Events, int]]:
    """The events of each entry that the rollups lack: all but its first `applied_events`, nearly always 0."""
    for payload, received_at_us, applied_events in entries:
        try:
            events = parse(payload, "payload")
        except InvalidRequest:
            continue  # it will become a dead letter, which no answer contains
        yield events.part(applied_events, None) if applied_events else events, received_at_us


def _cell_in(events: Events, received_at_us: int, question: Question) -> Cell:
    """The aggregate of those events that are asked for."""
    video_id, event_type, start, end = question.arguments()
    videos = [place for place, name in enumerate(events.video_ids) if name == video_id]
    types = [place for place, name in enumerate(events.event_types) if name == event_type]
    if not videos or not types:
        return Cell()
    chosen = np.isin(events.video_index, videos) & np.isin(events.event_type_index, types)
    minute = np.full(len(events), received_at_us // MINUTE_US, np.int64)
    if events.time_us is not None:
        minute = np.where(events.time_us == NO_TIME, minute, events.time_us // MINUTE_US)
    chosen &= (minute >= start) & (minute < end)
    n = int(chosen.sum())
    if not n:
        return Cell()
    value = None if events.value is None else events.value[chosen]
    cells = cells_of_events(np.zeros(n, np.uint64), np.zeros(n, np.int64), value)
    if cells.values is None or not cells.values.value_count[0]:
        return Cell(n)
    return Cell(n, *(column[0].item() for column in cells.values.columns()))
