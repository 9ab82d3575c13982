"""Strong reads: the rollups, and the journal's entries that are not in them yet, in one snapshot."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from libs.domain.cells import Cell, cells_of_events
from libs.domain.errors import InvalidRequest
from libs.domain.events import NO_TIME, Events
from libs.domain.minutes import MINUTE_US, MinuteRange
from libs.rpc.columns import parse
from services.query.warm import CELL, Reading, bounds, cell_of

# By number, never by time. No entry is below the floor that its log was opened with.
_READ = f"""
with {CELL}, pending as materialized (
    select payload, (extract(epoch from received_at) * 1000000)::bigint as received_at_us,
        case when seq = split_seq then applied_events else 0 end as applied_events
    from log join checkpoint using (log_id) join journal using (log_id)
    where state <> 'settled' and seq > applied_seq and request_id >= opening_floor and partition = $5
)
select total.*, m2, (extract(epoch from now()) * 1000000)::bigint as as_of_us,
    array(select payload from pending) as payloads,
    array(select received_at_us from pending) as received_at_us,
    array(select applied_events from pending) as applied_events
from total, spread"""


async def read_everything(
    pool: Any, video_id: str, event_type: str, minutes: MinuteRange, partition: int
) -> Reading:
    """Everything that was journaled before the call, of one video and event type."""
    row = await pool.fetchrow(_READ, video_id, event_type, *bounds(minutes), partition)
    cell = cell_of(row)
    entries = zip(row["payloads"], row["received_at_us"], row["applied_events"], strict=True)
    for events, received_at_us in _decoded(entries):
        cell = cell.merge(_cell_in(events, received_at_us, video_id, event_type, minutes))
    return Reading(cell, row["as_of_us"])


def _decoded(entries: Iterable[tuple[bytes, int, int]]) -> Iterable[tuple[Events, int]]:
    """The events of each entry that the rollups lack: all but its first `applied_events`, nearly always 0."""
    for payload, received_at_us, applied_events in entries:
        try:
            events = parse(payload, "payload")
        except InvalidRequest:
            continue  # it will become a dead letter, which no answer contains
        yield events.part(applied_events, None) if applied_events else events, received_at_us


def _cell_in(
    events: Events, received_at_us: int, video_id: str, event_type: str, minutes: MinuteRange
) -> Cell:
    """The aggregate of those events that are asked for."""
    videos = [place for place, name in enumerate(events.video_ids) if name == video_id]
    types = [place for place, name in enumerate(events.event_types) if name == event_type]
    if not videos or not types:
        return Cell()
    chosen = np.isin(events.video_index, videos) & np.isin(events.event_type_index, types)
    start, end = bounds(minutes)
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
