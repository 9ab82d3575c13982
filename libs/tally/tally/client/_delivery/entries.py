"""Cuts a batch into the same entries as the partitioner, so that a retry may use either way.

The same request must have the same keys, (request_id, partition), the same events under each, and the same hash
wherever it is cut; the entries made here are the partitioner's to the byte. What cannot be cut, or is against the
rules, is the partitioner's to judge: of a request that is refused nothing may be counted, and a shard sees a part only.

Needs the package xxhash: the extra `direct` of the wheel.
"""

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from typing import Any

import xxhash

from tally.client._checks.rules import check_actor_id, check_event_type, check_video_id
from tally.client.columns import Batch, Columns, to_little_endian
from tally.contract.request_id import parse_request_id, time_ms_of
from tally.contract.rules import (
    EARLIEST_EVENT_US,
    MAX_EVENTS,
    MAX_ID_BYTES,
    MAX_MAGNITUDE,
    NO_ACTOR,
    NO_TIME,
    check_dictionary,
)
from tally.counting.v1.counting_pb2 import Entry

_FEW_TYPES = 16
"""So many event types are in every part, used or not, as the partitioner has it."""
_LATER_US = 60_000_000
"""An event may be so much later than its request's id. Then a shard that takes the id takes the event too, except
for an id nearly 5 minutes ahead of the service."""


def cut(batch: Batch, partition_count: int) -> list[Entry]:
    """The entries of a batch, one for each partition that it touches, in ascending order.

    Raises ValueError, of which InvalidRequest is one, when the partitioner should see the batch instead.
    """
    request_id = parse_request_id(batch.request_id)
    columns = batch.columns
    _check(columns, time_ms_of(request_id) * 1_000 + _LATER_US)
    # A retry repeats the bytes of the request, and so their hash.
    request_hash = xxhash.xxh3_64_intdigest(batch.payload)
    return [
        Entry(
            request_id=request_id.bytes,
            partition=partition,
            request_hash=request_hash,
            event_count=len(part),
            payload=part.to_message().SerializeToString(),
        )
        for partition, part in _parts(columns, partition_count)
    ]


def _check(columns: Columns, latest_us: int) -> None:
    """Raise ValueError for what a shard or the partitioner would refuse, whichever event has it."""
    _check_sizes(columns)
    actors = set(_numbers("H", columns.actor_index)) - {NO_ACTOR}
    for index, names in (
        (_numbers("H", columns.video_index), columns.video_ids),
        (_numbers("H", columns.event_type_index), columns.event_types),
        (actors, columns.actor_ids),
    ):
        if max(index, default=-1) >= len(names):
            raise ValueError("an index is beyond its dictionary")
    for event_type in columns.event_types:
        check_event_type(event_type)
    for actor_id in columns.actor_ids:
        check_actor_id(actor_id)
    times = set(_numbers("q", columns.event_time_us)) - {NO_TIME}
    if times and not EARLIEST_EVENT_US <= min(times) <= max(times) <= latest_us:
        raise ValueError("an event is too old, or ahead of its request")
    if any(abs(value) > MAX_MAGNITUDE for value in _numbers("d", columns.value)):  # a NaN stands for no value
        raise ValueError("a value is too large")


def _check_sizes(columns: Columns) -> None:
    n = len(columns)
    if not 1 <= n <= MAX_EVENTS or not len(columns.video_index) == len(columns.event_type_index) == 2 * n:
        raise ValueError("there are too many events, or too few")
    for column, width in ((columns.actor_index, 2), (columns.event_time_us, 8), (columns.value, 8)):
        if len(column) not in (0, width * n):
            raise ValueError("a column has another length than the others")
    for names in (columns.video_ids, columns.event_types, columns.actor_ids):
        if check_dictionary(len(names), n) is not None:
            raise ValueError("a dictionary has more names than the partitioner takes")


def _parts(columns: Columns, partition_count: int) -> Iterator[tuple[int, Columns]]:
    """The events of each partition in their order, with a dictionary of the videos that they use."""
    of_video = _partitions_of(columns.video_ids, partition_count)
    if len(of_video) == 1:  # nothing to cut
        yield of_video[0], columns
        return
    video_index = _numbers("H", columns.video_index)
    used = set(video_index)
    videos: list[list[str]] = [[] for _ in range(partition_count)]
    events: list[list[int]] = [[] for _ in range(partition_count)]
    place_in_part: list[int] = []
    for video, (video_id, partition) in enumerate(zip(columns.video_ids, of_video, strict=True)):
        names = videos[partition]
        place_in_part.append(len(names))
        if video in used:
            names.append(video_id)
    take = [events[partition].append for partition in of_video]
    for event, video in enumerate(video_index):
        take[video](event)
    take_sorted = _taker(list(chain.from_iterable(events)))
    place = array("H", _taker(video_index)(place_in_part))
    sorted_columns = replace(
        columns,
        video_index=_sort("H", to_little_endian(place), take_sorted),
        event_type_index=_sort("H", columns.event_type_index, take_sorted),
        actor_index=_sort("H", columns.actor_index, take_sorted),
        event_time_us=_sort("Q", columns.event_time_us, take_sorted),
        value=_sort("Q", columns.value, take_sorted),
    )
    start = 0
    for partition, (names, chosen) in enumerate(zip(videos, events, strict=True)):
        if chosen:
            end = start + len(chosen)
            yield partition, _part(sorted_columns, tuple(names), start, end)
            start = end


def _partitions_of(video_ids: Sequence[str], partition_count: int) -> list[int]:
    """The partition of each video: XXH3 (64 bits, seed 0) of its UTF-8 bytes, unsigned, modulo the partition count.

    Raises InvalidRequest when one is against the rules. (To remember the partitions of many videos is not faster.)
    """
    together, lengths = "".join(video_ids), set(map(len, video_ids))
    is_plain = together.isascii() and together.isprintable()
    if not is_plain or min(lengths) < 1 or max(lengths) > MAX_ID_BYTES:
        for video_id in video_ids:
            check_video_id(video_id)
    return [digest % partition_count for digest in map(xxhash.xxh3_64_intdigest, map(str.encode, video_ids))]


def _part(columns: Columns, video_ids: tuple[str, ...], start: int, end: int) -> Columns:
    actor_ids: tuple[str, ...]
    event_types, event_type_index = columns.event_types, columns.event_type_index[2 * start : 2 * end]
    if len(event_types) > _FEW_TYPES:
        event_types, event_type_index = _narrow(event_types, event_type_index)
    actor_ids, actor_index = (), b""
    if columns.actor_index:
        actor_ids, actor_index = _narrow(columns.actor_ids, columns.actor_index[2 * start : 2 * end])
    return Columns(
        video_ids=video_ids,
        event_types=event_types,
        video_index=columns.video_index[2 * start : 2 * end],
        event_type_index=event_type_index,
        actor_ids=actor_ids,
        actor_index=actor_index,
        event_time_us=columns.event_time_us[8 * start : 8 * end],
        value=columns.value[8 * start : 8 * end],
    )


def _narrow(names: tuple[str, ...], data: bytes) -> tuple[tuple[str, ...], bytes]:
    """Leave out of a dictionary what the index does not use."""
    index = _numbers("H", data)
    used = sorted(set(index) - {NO_ACTOR})
    place = {number: at for at, number in enumerate(used)} | {NO_ACTOR: NO_ACTOR}
    return tuple(names[number] for number in used), to_little_endian(
        array("H", map(place.__getitem__, index))
    )


def _sort(code: str, data: bytes, take: Callable[[Any], tuple[Any, ...]]) -> bytes:
    """A column in another order, whatever its numbers mean. `code`: that of an array whose numbers are as wide."""
    return array(code, take(array(code, data))).tobytes() if data else b""


def _taker(places: Sequence[int]) -> Callable[[Any], tuple[Any, ...]]:
    """Takes what is at these places of a sequence: twice as fast as one after the other."""
    return itemgetter(*places) if len(places) > 1 else lambda sequence: (sequence[places[0]],)


def _numbers(code: str, data: bytes) -> "array[Any]":
    """The other way of `to_little_endian`."""
    numbers = array(code, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
