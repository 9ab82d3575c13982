"""Reads entries off the wire. A shard believes nobody: what it has journaled, it must be able to apply."""

import uuid

import numpy as np

from libs.domain import rules
from libs.domain.errors import InvalidRequest, Violation
from libs.domain.events import NO_TIME, Events
from libs.domain.minutes import LAST_MINUTE, MINUTE_US
from libs.domain.partition import partitions_of
from libs.rpc.columns import parse
from services.counting.entry import Entry
from tally.counting.v1 import counting_pb2 as pb


def read_entry(sent: pb.Entry, path: str, partition_count: int) -> Entry:
    """One entry; `path` comes before the names of its fields. Raises InvalidRequest."""
    if len(sent.request_id) != 16:
        raise InvalidRequest([Violation(f"{path}.request_id", "must be the 16 bytes of a UUID")])
    if sent.partition >= partition_count:
        raise InvalidRequest([Violation(f"{path}.partition", f"must be below {partition_count}")])
    events = parse(sent.payload, f"{path}.payload")
    if len(events) != sent.event_count or not sent.event_count:
        raise InvalidRequest(
            [Violation(f"{path}.event_count", f"must be that of the payload, {len(events)}")]
        )
    if problem := _check_names(events) or _check_numbers(events):
        raise InvalidRequest([Violation(f"{path}.payload", problem)])
    if (partitions_of(events.video_ids, partition_count) != sent.partition).any():
        raise InvalidRequest([Violation(f"{path}.partition", "must be that of every video in the payload")])
    return Entry(
        request_id=uuid.UUID(bytes=sent.request_id),
        partition=sent.partition,
        request_hash=_signed(sent.request_hash),
        payload=sent.payload,
        events=events,
        traceparent=sent.traceparent,
    )


def _check_names(events: Events) -> str | None:
    problems = (
        *map(rules.check_video_id, events.video_ids),
        *map(rules.check_event_type, events.event_types),
        *map(rules.check_actor_id, events.actor_ids),
    )
    return next(filter(None, problems), None)


def _check_numbers(events: Events) -> str | None:
    """The limits of what can be kept; how far ahead a time may be, the door has judged when it came."""
    if events.value is not None and (np.abs(events.value) > rules.MAX_MAGNITUDE).any():
        return rules.VALUE
    if events.time_us is not None:
        early = (events.time_us < rules.EARLIEST_EVENT_US) & (events.time_us != NO_TIME)
        if (early | (events.time_us > LAST_MINUTE * MINUTE_US)).any():
            return rules.EVENT_TIME
    return None


def _signed(number: int) -> int:
    """64 bits as Postgres's bigint holds them."""
    return number - (1 << 64) if number >= 1 << 63 else number
