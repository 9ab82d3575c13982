"""Events that come as one message each: checked one by one, and laid out in columns."""

from array import array
from collections.abc import Callable, Sequence
from math import nan

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from libs.domain.events import Events
from services.partitioner.intake.findings import Findings
from tally.contract import rules
from tally.contract.function import NEEDS_ACTOR, NEEDS_VALUE
from tally.contract.rules import NO_ACTOR, NO_TIME
from tally.ingest.v1.ingest_pb2 import Event


def read_rows(
    rows: Sequence[Event], path_of: Callable[[int], str], findings: Findings, now_us: int
) -> Events:
    """The events as columns, which mean nothing when something was found.

    `path_of`: from the index of an event to what comes before the names of its fields.
    """
    videos: dict[str, int] = {}
    types: dict[str, int] = {}
    actors: dict[str, int] = {}
    video_index, type_index, actor_index = array("H"), array("H"), array("H")
    times, values = array("q"), array("d")
    has_time = has_value = False
    for index, row in enumerate(rows):
        video_id, event_type, actor_id = row.video_id, row.event_type, row.actor_id
        # Only names that are good get into the dictionaries, so most events need no check of theirs.
        is_known = video_id in videos and event_type in types and (not actor_id or actor_id in actors)
        if is_known or _check_names(row, path_of(index), findings):
            video_index.append(videos.setdefault(video_id, len(videos)))
            type_index.append(types.setdefault(event_type, len(types)))
            actor_index.append(actors.setdefault(actor_id, len(actors)) if actor_id else NO_ACTOR)
        time_us, value = NO_TIME, nan
        if row.HasField("event_time"):
            has_time, time_us = True, _read_time(row.event_time, path_of(index), findings, now_us)
        if row.HasField("value"):
            has_value, value = True, row.value
            findings.note(f"{path_of(index)}value", rules.check_value(value))
        if row.function:
            _check_function(row, path_of(index), findings)
        times.append(time_us)
        values.append(value)
    return Events(
        video_ids=list(videos),
        event_types=list(types),
        actor_ids=list(actors),
        video_index=np.frombuffer(video_index, np.uint16),
        event_type_index=np.frombuffer(type_index, np.uint16),
        actor_index=np.frombuffer(actor_index, np.uint16) if actors else None,
        time_us=np.frombuffer(times, np.int64) if has_time else None,
        value=np.frombuffer(values, np.float64) if has_value else None,
    )


def _check_names(row: Event, path: str, findings: Findings) -> bool:
    problems = {
        "video_id": rules.check_video_id(row.video_id),
        "event_type": rules.check_event_type(row.event_type),
        "actor_id": rules.check_actor_id(row.actor_id),
    }
    for field, problem in problems.items():
        findings.note(f"{path}{field}", problem)
    return not any(problems.values())


def _check_function(row: Event, path: str, findings: Findings) -> None:
    findings.note(f"{path}function", rules.check_function(row.function))
    if int(row.function) in NEEDS_VALUE and not row.HasField("value"):
        findings.note(f"{path}value", rules.VALUE_MISSING)
    elif int(row.function) in NEEDS_ACTOR and not row.actor_id:
        findings.note(f"{path}actor_id", rules.ACTOR_MISSING)


def _read_time(time: Timestamp, path: str, findings: Findings, now_us: int) -> int:
    if problem := rules.check_nanos(time.nanos):
        findings.note(f"{path}event_time.nanos", problem)
        return NO_TIME
    # Beyond these seconds microseconds would not fit; both are out of range by thousands of years.
    time_us = max(-(2**42), min(time.seconds, 2**42)) * 1_000_000 + time.nanos // 1000
    findings.note_out_of_range(f"{path}event_time", rules.check_event_time(time_us, now_us))
    return time_us
