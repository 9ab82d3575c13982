"""The door: reads requests into events, and refuses what can not or may not be counted.

Everything that is wrong with a request is found before any of it is told (`findings`).
"""

import uuid
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from libs.domain import rules
from libs.domain.clock import Clock
from libs.domain.errors import InvalidRequest
from libs.domain.events import NO_ACTOR, NO_TIME, Events
from libs.domain.function import NEEDS_ACTOR, NEEDS_VALUE
from libs.domain.horizon import is_inside
from libs.domain.request_id import make_request_id, parse_request_id, time_ms_of
from libs.rpc.columns import decode
from services.partitioner.findings import Findings
from tally.ingest.v1.ingest_pb2 import Event, EventColumns, ProcessEventsRequest

_HORIZON = (
    "is older than 24 hours or more than 5 minutes ahead of the server's time; not counted by this attempt"
)


class Door:
    """Judges by one clock, which should be Postgres's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def admit_event(self, request_id: str, event: Event, path: str) -> tuple[uuid.UUID, Events]:
        """The id and the event of a request for one; `path` comes before the names of its fields."""
        return self._admit(request_id, lambda findings, now_us: _read_rows([event], [path], findings, now_us))

    def admit_batch(self, request: ProcessEventsRequest) -> tuple[uuid.UUID, Events]:
        """The id and the events of a request for many, be they rows or columns."""
        return self._admit(
            request.request_id, lambda findings, now_us: _read_batch(request, findings, now_us)
        )

    def _admit(self, request_id: str, read: Callable[[Findings, int], Events]) -> tuple[uuid.UUID, Events]:
        now_us = self._clock.now_us()
        findings = Findings()
        admitted = _read_request_id(request_id, findings, now_us)
        events = read(findings, now_us)
        findings.raise_if_any(now_us)
        return admitted, events


def _read_request_id(text: str, findings: Findings, now_us: int) -> uuid.UUID:
    if not text:
        return make_request_id(now_us // 1000)
    try:
        request_id = parse_request_id(text)
    except ValueError as error:
        findings.note("request_id", str(error))
        return uuid.UUID(int=0)
    if not is_inside(time_ms_of(request_id), now_us // 1000):
        findings.note_out_of_range("request_id", _HORIZON)
    return request_id


def _check_count(n: int, findings: Findings, path: str) -> bool:
    if n > rules.MAX_EVENTS:
        findings.note(path, f"must be at most {rules.MAX_EVENTS:,} events, and are {n:,}; cut the request")
    elif not n:
        findings.note(path, "must hold at least one event")
    return 0 < n <= rules.MAX_EVENTS


def _read_batch(request: ProcessEventsRequest, findings: Findings, now_us: int) -> Events:
    rows, has_columns = request.events, request.HasField("columns")
    if bool(rows) == has_columns:
        findings.note("events", "either events or columns must be given, and not both")
    elif has_columns:
        return _read_columns(request.columns, findings, now_us)
    elif _check_count(len(rows), findings, "events"):
        return _read_rows(rows, (f"events[{place}]." for place in range(len(rows))), findings, now_us)
    return _NOTHING


def _read_rows(rows: Sequence[Event], paths: Iterable[str], findings: Findings, now_us: int) -> Events:
    n = len(rows)
    videos: dict[str, int] = {}
    types: dict[str, int] = {}
    actors: dict[str, int] = {}
    video_index = np.empty(n, np.uint16)
    type_index = np.empty(n, np.uint16)
    actor_index = np.full(n, NO_ACTOR, np.uint16)
    time_us = np.full(n, NO_TIME, np.int64)
    value = np.full(n, np.nan)
    for place, (row, path) in enumerate(zip(rows, paths, strict=True)):
        _check_row(row, path, findings)
        video_index[place] = videos.setdefault(row.video_id, len(videos))
        type_index[place] = types.setdefault(row.event_type, len(types))
        if row.actor_id:
            actor_index[place] = actors.setdefault(row.actor_id, len(actors))
        if row.HasField("event_time"):
            time_us[place] = _read_time(row.event_time, f"{path}event_time", findings, now_us)
        if row.HasField("value"):
            value[place] = row.value
    return Events(
        video_ids=list(videos),
        event_types=list(types),
        actor_ids=list(actors),
        video_index=video_index,
        event_type_index=type_index,
        actor_index=actor_index if actors else None,
        time_us=time_us if (time_us != NO_TIME).any() else None,
        value=None if np.isnan(value).all() else value,
    )


def _check_row(row: Event, path: str, findings: Findings) -> None:
    if problem := rules.check_video_id(row.video_id):
        findings.note(f"{path}video_id", problem)
    if problem := rules.check_event_type(row.event_type):
        findings.note(f"{path}event_type", problem)
    if problem := rules.check_actor_id(row.actor_id):
        findings.note(f"{path}actor_id", problem)
    if row.HasField("value"):
        findings.note(f"{path}value", rules.check_value(row.value))
    if row.function:
        _check_function(row, path, findings)


def _check_function(row: Event, path: str, findings: Findings) -> None:
    findings.note(f"{path}function", rules.check_function(row.function))
    if int(row.function) in NEEDS_VALUE and not row.HasField("value"):
        findings.note(f"{path}value", rules.NEEDS_VALUE)
    elif int(row.function) in NEEDS_ACTOR and not row.actor_id:
        findings.note(f"{path}actor_id", rules.NEEDS_ACTOR)


def _read_time(time: Timestamp, path: str, findings: Findings, now_us: int) -> int:
    if problem := rules.check_nanos(time.nanos):
        findings.note(f"{path}.nanos", problem)
        return NO_TIME
    # Beyond these seconds microseconds would not fit; both are out of range by thousands of years.
    time_us = max(-(2**42), min(time.seconds, 2**42)) * 1_000_000 + time.nanos // 1000
    findings.note_out_of_range(path, rules.check_event_time(time_us, now_us))
    return time_us


def _read_columns(columns: EventColumns, findings: Findings, now_us: int) -> Events:
    if not _check_count(len(columns.video_index) // 2, findings, "columns"):
        return _NOTHING
    for place, video_id in enumerate(columns.video_ids):
        findings.note(f"columns.video_ids[{place}]", rules.check_video_id(video_id))
    for place, event_type in enumerate(columns.event_types):
        findings.note(f"columns.event_types[{place}]", rules.check_event_type(event_type))
    for place, actor_id in enumerate(columns.actor_ids):
        findings.note(f"columns.actor_ids[{place}]", rules.check_actor_id(actor_id))
    try:
        events = decode(columns)
    except InvalidRequest as error:
        findings.note_all(error)
        return _NOTHING
    _check_values(events, findings)
    _check_times(events, findings, now_us)
    return events


def _check_values(events: Events, findings: Findings) -> None:
    if events.value is None:
        return
    # A NaN stands for no value. Infinity is beyond every bound.
    for place in np.flatnonzero(np.abs(events.value) > rules.MAX_MAGNITUDE).tolist():
        findings.note(f"columns.value[{place}]", rules.VALUE)


def _check_times(events: Events, findings: Findings, now_us: int) -> None:
    if events.time_us is None:
        return
    early = (events.time_us < rules.EARLIEST_EVENT_US) & (events.time_us != NO_TIME)
    late = events.time_us > now_us + rules.FUTURE_TOLERANCE_US
    for place in np.flatnonzero(early | late).tolist():
        findings.note_out_of_range(f"columns.event_time_us[{place}]", rules.EVENT_TIME)


_NOTHING = Events([], [], [], np.empty(0, np.uint16), np.empty(0, np.uint16))
