"""Reads entries off the wire. A shard believes nobody: what it has journaled, it must be able to apply."""

import uuid
from collections.abc import Sequence

import numpy as np

from libs.domain import rules
from libs.domain.clock import Clock
from libs.domain.errors import InvalidRequest, PartitionCountMismatch, Violation
from libs.domain.events import NO_TIME, Events
from libs.domain.horizon import AHEAD_MS
from libs.domain.partition import Partitions
from libs.rpc.columns import parse_all
from services.counting.entry import Entry
from tally.counting.v1 import counting_pb2 as pb

_CLOCK_SLACK_US = 2_000_000
"""What the door has let in may look so much further ahead from here: its reading of Postgres's clock is another."""


class Wire:
    """Reads the requests of one shard."""

    def __init__(self, partitions: Partitions, clock: Clock) -> None:
        self._partitions = partitions
        self._clock = clock

    def read_entries(self, request: pb.AppendRequest) -> list[Entry]:
        """The entries of a request. Raises PartitionCountMismatch and InvalidRequest."""
        if request.partition_count != self._partitions.count:
            raise PartitionCountMismatch(
                f"the entries are cut for {request.partition_count} partitions; this cluster has "
                f"{self._partitions.count}"
            )
        now_us = self._clock.now_us() + _CLOCK_SLACK_US
        sent = list(request.entries)
        payloads = [entry.payload for entry in sent]
        batches = parse_all(payloads, lambda place: f"entries[{place}].payload")
        for place, (entry, events) in enumerate(zip(sent, batches, strict=True)):
            _check(entry, events, f"entries[{place}]", now_us)
        self._check_partitions(sent, batches)
        uuids = {data: uuid.UUID(bytes=data) for data in {entry.request_id for entry in sent}}
        entries = [
            Entry(
                uuids[entry.request_id],
                entry.partition,
                _signed(entry.request_hash),
                payload,
                events,
                entry.traceparent,
            )
            for entry, payload, events in zip(sent, payloads, batches, strict=True)
        ]
        _check_keys(entries)
        return entries

    def _check_partitions(self, sent: Sequence[pb.Entry], batches: Sequence[Events]) -> None:
        """Every video belongs to the partition of its entry."""
        for place, entry in enumerate(sent):
            if entry.partition >= self._partitions.count:
                raise _invalid(f"entries[{place}].partition", f"must be below {self._partitions.count}")
        video_ids = [video_id for events in batches for video_id in events.video_ids]
        sizes = [len(events.video_ids) for events in batches]
        said = np.repeat(np.array([entry.partition for entry in sent], np.uint16), sizes)
        if not rules.are_video_ids(video_ids):
            raise _invalid("entries.payload.video_ids", rules.VIDEO_ID)
        is_elsewhere = self._partitions.of(video_ids) != said
        if is_elsewhere.any():
            place = int(np.searchsorted(np.cumsum(sizes), np.flatnonzero(is_elsewhere)[0], "right"))
            raise _invalid(f"entries[{place}].partition", "must be that of every video in the payload")


def _check(sent: pb.Entry, events: Events, path: str, now_us: int) -> None:
    if len(sent.request_id) != 16:
        raise _invalid(f"{path}.request_id", "must be the 16 bytes of a UUID")
    # How old it may be, the insert judges by the floor. For what is too far ahead the journal has no partition.
    if int.from_bytes(sent.request_id[:6]) > now_us // 1000 + AHEAD_MS:
        raise _invalid(f"{path}.request_id", "is more than 5 minutes ahead of the server's time")
    if not len(events) or len(events) != sent.event_count:
        raise _invalid(f"{path}.event_count", f"must be that of the payload, {len(events)}")
    if problem := _check_names(events) or _check_numbers(events, now_us):
        raise _invalid(f"{path}.payload", problem)


def _check_names(events: Events) -> str | None:
    """The event types and actors; the videos are checked as they are placed."""
    problems = (
        *map(rules.check_event_type, events.event_types),
        *map(rules.check_actor_id, events.actor_ids),
    )
    return next(filter(None, problems), None)


def _check_numbers(events: Events, now_us: int) -> str | None:
    if events.value is not None and (np.abs(events.value) > rules.MAX_MAGNITUDE).any():
        return rules.VALUE
    if events.time_us is not None:
        early = (events.time_us < rules.EARLIEST_EVENT_US) & (events.time_us != NO_TIME)
        if (early | (events.time_us > now_us + rules.FUTURE_TOLERANCE_US)).any():
            return rules.EVENT_TIME
    return None


def _check_keys(entries: Sequence[Entry]) -> None:
    """A retry may share a call with its first attempt; other events of its request, under the same key, would be
    lost. (Another request under the same key has another hash, and is found by that.)"""
    payloads: dict[tuple[uuid.UUID, int, int], bytes] = {}
    for place, entry in enumerate(entries):
        first = payloads.setdefault((entry.request_id, entry.partition, entry.request_hash), entry.payload)
        if first is not entry.payload and first != entry.payload:
            raise _invalid(f"entries[{place}]", "has the key of another entry, and not its events")


def _invalid(field: str, description: str) -> InvalidRequest:
    return InvalidRequest([Violation(field, description)])


def _signed(number: int) -> int:
    """64 bits as Postgres's bigint holds them."""
    return number - (1 << 64) if number >= 1 << 63 else number
