"""Decodes entries. A shard validates everything: it must be able to apply what it has journaled."""

import uuid
from collections.abc import Sequence
from itertools import repeat
from typing import NoReturn

import numpy as np

from libs.domain.clock import Clock
from libs.domain.column_rules import find_bad_times, find_bad_values
from libs.domain.entry import MAX_TRACEPARENT_BYTES, Entry, signed
from libs.domain.events import Events
from libs.domain.partition import partitions_of
from libs.rpc.columns import parse_all
from tally.contract import rules
from tally.contract.errors import InvalidRequest, Violation
from tally.contract.request_id import AHEAD_MS
from tally.counting.v1 import counting_pb2 as pb

_CLOCK_SLACK_US = 2_000_000
"""Extra clock skew allowed: partitioner and shard read Postgres's clock independently."""


class Wire:
    """Reads the requests of one shard."""

    def __init__(self, partition_count: int, clock: Clock) -> None:
        self._partition_count = partition_count
        self._clock = clock

    def read_entries(self, request: pb.AppendRequest) -> list[Entry]:
        """The entries of a request that is meant for this cluster. Raises InvalidRequest."""
        now_us = self._clock.now_us() + _CLOCK_SLACK_US
        sent = list(request.entries)
        _check_sizes(sent)
        payloads = [entry.payload for entry in sent]
        batches = parse_all(payloads, lambda index: f"entries[{index}].payload")
        if not self._are_good(sent, batches, now_us):
            self._refuse(sent, batches, now_us)
        uuids = {data: uuid.UUID(bytes=data) for data in {entry.request_id for entry in sent}}
        entries = [
            Entry(
                uuids[entry.request_id],
                entry.partition,
                signed(entry.request_hash),
                payload,
                events,
                entry.traceparent if len(entry.traceparent) <= MAX_TRACEPARENT_BYTES else "",
            )
            for entry, payload, events in zip(sent, payloads, batches, strict=True)
        ]
        _check_keys(entries)
        return entries

    def _are_good(self, sent: Sequence[pb.Entry], batches: Sequence[Events], now_us: int) -> bool:
        """Whether there is nothing to refuse: all is looked at together, which is several times faster."""
        said = [entry.partition for entry in sent]
        counts = [entry.event_count for entry in sent]
        if max(said, default=0) >= self._partition_count or 0 in counts or counts != [*map(len, batches)]:
            return False
        if any(map(_check_dictionaries, batches)):
            return False
        if any(map(_check_request_id, {entry.request_id for entry in sent}, repeat(now_us))):
            return False
        if any(map(rules.check_event_type, {name for events in batches for name in events.event_types})):
            return False
        if any(_check_optional(events, now_us) for events in batches):
            return False
        video_ids = [video_id for events in batches for video_id in events.video_ids]
        if not rules.are_video_ids(video_ids):
            return False
        belongs = np.repeat(np.array(said, np.uint16), [len(events.video_ids) for events in batches])
        return bool((partitions_of(video_ids, self._partition_count) == belongs).all())

    def _refuse(self, sent: Sequence[pb.Entry], batches: Sequence[Events], now_us: int) -> NoReturn:
        """Raises InvalidRequest for the first entry that is wrong."""
        for index, (entry, events) in enumerate(zip(sent, batches, strict=True)):
            problems = {
                "request_id": _check_request_id(entry.request_id, now_us),
                "event_count": _check_count(entry.event_count, events),
                "payload": _check_dictionaries(events)
                or _check_names(events)
                or _check_optional(events, now_us),
                "partition": self._check_partition(entry.partition, events),
            }
            for field, problem in problems.items():
                if problem is not None:
                    raise InvalidRequest([Violation(f"entries[{index}].{field}", problem)])
        raise AssertionError("entries were refused, and none of them is wrong")

    def _check_partition(self, partition: int, events: Events) -> str | None:
        if partition >= self._partition_count:
            return f"must be below {self._partition_count}"
        if (
            rules.are_video_ids(events.video_ids)
            and (partitions_of(events.video_ids, self._partition_count) != partition).any()
        ):
            return "must be that of every video in the payload"
        return None


def _check_sizes(sent: Sequence[pb.Entry]) -> None:
    """An entry is part of one request, which has no more. To be checked before anything is parsed."""
    for index, entry in enumerate(sent):
        if entry.event_count > rules.MAX_EVENTS:
            raise InvalidRequest(
                [
                    Violation(
                        f"entries[{index}].event_count",
                        f"must be at most {rules.MAX_EVENTS:,}; cut the request",
                    )
                ]
            )


def _check_request_id(data: bytes, now_us: int) -> str | None:
    if len(data) != 16:
        return "must be the 16 bytes of a UUID"
    # How old it may be, the insert judges by the floor. For what is too far ahead the journal has no partition.
    if int.from_bytes(data[:6]) > now_us // 1000 + AHEAD_MS:
        return "is more than 5 minutes ahead of the server's time"
    return None


def _check_count(event_count: int, events: Events) -> str | None:
    is_that = event_count == len(events) and event_count > 0
    return None if is_that else f"must be that of the payload, {len(events)}"


def _check_dictionaries(events: Events) -> str | None:
    dictionaries = (events.video_ids, events.event_types, events.actor_ids)
    return rules.check_dictionary(max(map(len, dictionaries)), len(events))


def _check_names(events: Events) -> str | None:
    if not rules.are_video_ids(events.video_ids):
        return rules.VIDEO_ID
    return next(filter(None, map(rules.check_event_type, events.event_types)), None)


def _check_optional(events: Events, now_us: int) -> str | None:
    """What only some batches have: actors, values, times of their own."""
    if any(map(rules.check_actor_id, events.actor_ids)):
        return rules.ACTOR_ID
    if events.value is not None and len(find_bad_values(events.value)):
        return rules.VALUE
    if events.time_us is not None and len(find_bad_times(events.time_us, now_us)):
        return rules.EVENT_TIME
    return None


def _check_keys(entries: Sequence[Entry]) -> None:
    """A retry may share a call with its first attempt; other events of its request, under the same key, would be
    lost. (Another request under the same key has another hash, and is found by that.)"""
    payloads: dict[tuple[uuid.UUID, int, int], bytes] = {}
    for index, entry in enumerate(entries):
        first = payloads.setdefault((entry.request_id, entry.partition, entry.request_hash), entry.payload)
        if first is not entry.payload and first != entry.payload:
            raise InvalidRequest(
                [Violation(f"entries[{index}]", "has the key of another entry, and not its events")]
            )
