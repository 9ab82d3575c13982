"""The door: reads requests into events, and refuses invalid ones.

All violations of a request are found before it is refused (`findings`).
"""

import uuid
from collections.abc import Callable

import numpy as np

from libs.domain.clock import Clock
from libs.domain.column_rules import find_bad_times, find_bad_values
from libs.domain.events import Events
from libs.domain.horizon import is_inside
from libs.rpc.columns import decode
from services.partitioner.intake.findings import Findings
from services.partitioner.intake.rows import read_rows
from tally.contract import rules
from tally.contract.errors import InvalidRequest
from tally.contract.request_id import make_request_id, parse_request_id, time_ms_of
from tally.ingest.v1.ingest_pb2 import Event, EventColumns, ProcessEventsRequest

_HORIZON = (
    "is older than 24 hours or more than 5 minutes ahead of the server's time; not counted by this attempt"
)


class Door:
    """Judges by one clock, which should be Postgres's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def read_event(self, request_id: str, event: Event, path: str) -> tuple[uuid.UUID, Events]:
        """The id and the event of a request for one; `path` comes before the names of its fields."""
        return self._read(
            request_id, lambda findings, now_us: read_rows([event], lambda _: path, findings, now_us)
        )

    def read_batch(self, request: ProcessEventsRequest) -> tuple[uuid.UUID, Events]:
        """The id and the events of a request for many, be they rows or columns."""
        return self._read(request.request_id, lambda findings, now_us: _read_batch(request, findings, now_us))

    def _read(self, request_id: str, read: Callable[[Findings, int], Events]) -> tuple[uuid.UUID, Events]:
        now_us = self._clock.now_us()
        findings = Findings()
        accepted_id = _read_request_id(request_id, findings, now_us)
        events = read(findings, now_us)
        findings.raise_if_any(now_us)
        return accepted_id, events


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
        return read_rows(rows, lambda index: f"events[{index}].", findings, now_us)
    return _NOTHING


def _read_columns(columns: EventColumns, findings: Findings, now_us: int) -> Events:
    if not _check_count(len(columns.video_index) // 2, findings, "columns"):
        return _NOTHING
    if not _check_dictionaries(columns, findings):
        return _NOTHING
    try:
        events = decode(columns)
    except InvalidRequest as error:
        _check_names(columns, findings)
        findings.note_all(error)
        return _NOTHING
    _check_names(events, findings)
    if events.value is not None:
        for index in find_bad_values(events.value).tolist():
            findings.note(f"columns.value[{index}]", rules.VALUE)
    if events.time_us is not None:
        for index in find_bad_times(events.time_us, now_us).tolist():
            findings.note_out_of_range(f"columns.event_time_us[{index}]", rules.EVENT_TIME)
    return events


def _check_dictionaries(columns: EventColumns, findings: Findings) -> bool:
    event_count = len(columns.video_index) // 2
    problems = {
        "video_ids": rules.check_dictionary(len(columns.video_ids), event_count),
        "event_types": rules.check_dictionary(len(columns.event_types), event_count),
        "actor_ids": rules.check_dictionary(len(columns.actor_ids), event_count),
    }
    for field, problem in problems.items():
        findings.note(f"columns.{field}", problem)
    return not any(problems.values())


def _check_names(names: Events | EventColumns, findings: Findings) -> None:
    """Check the dictionaries. `names`: the events if they could be decoded, whose lists are faster to walk than the
    message's fields; else the message."""
    if not rules.are_video_ids(names.video_ids):
        for index, video_id in enumerate(names.video_ids):
            findings.note(f"columns.video_ids[{index}]", rules.check_video_id(video_id))
    for index, event_type in enumerate(names.event_types):
        findings.note(f"columns.event_types[{index}]", rules.check_event_type(event_type))
    for index, actor_id in enumerate(names.actor_ids):
        findings.note(f"columns.actor_ids[{index}]", rules.check_actor_id(actor_id))


_NOTHING = Events([], [], [], np.empty(0, np.uint16), np.empty(0, np.uint16))
