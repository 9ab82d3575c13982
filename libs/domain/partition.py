"""From a video to its partition, and from a request to its entries. Frozen by test vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import xxhash

from libs.domain.events import Events, narrow
from tally.contract.rules import NO_ACTOR

_FEW_TYPES = 16
"""So many event types may be in every part, used or not: to leave some out costs more than to keep them."""


def partition_of(video_id: str, partition_count: int) -> int:
    """XXH3 (64 bits, seed 0) of the id's UTF-8 bytes, unsigned, modulo the partition count."""
    return xxhash.xxh3_64_intdigest(video_id.encode()) % partition_count


def partitions_of(video_ids: Sequence[str], partition_count: int) -> npt.NDArray[np.uint16]:
    """(len(video_ids),) the partition of each id."""
    return partitions_of_hashes(hash_videos(video_ids), partition_count)


def hash_videos(video_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """(len(video_ids),) the hash of each id, signed. (No table of what was hashed before is faster than hashing.)"""
    digests = b"".join(map(xxhash.xxh3_64_digest, map(str.encode, video_ids)))
    return np.frombuffer(digests, ">i8").astype(np.int64)


def partitions_of_hashes(hashes: npt.NDArray[np.int64], partition_count: int) -> npt.NDArray[np.uint16]:
    """(n,) the partition of each hash."""
    return (hashes.view(np.uint64) % np.uint64(partition_count)).astype(np.uint16)


def cut(events: Events, partition_count: int) -> Iterator[tuple[int, Events]]:
    """Cut a batch into one part for each partition that it touches, in ascending order of partition.

    The cut depends on the events and the partition count alone, so that a retry is cut the same way. Within
    a part the events keep their order, and its dictionaries hold what it uses; only of event types, where the
    batch has few, all of them. The parts share their arrays: each is a piece of the batch, sorted once.
    """
    events = _with_used_videos(events)
    video_ids, hashes = events.video_ids, hash_videos(events.video_ids)
    partition_of_video = partitions_of_hashes(hashes, partition_count)
    video_order, video_bounds = _sort(partition_of_video, partition_count)
    order, event_bounds = _sort(partition_of_video[events.video_index], partition_count)
    sizes = np.diff(video_bounds)
    place_in_part = np.empty(len(video_ids), np.uint16)
    place_in_part[video_order] = np.arange(len(video_ids)) - np.repeat(video_bounds[:-1], sizes)
    sorted_events = Events(
        video_ids=list(map(video_ids.__getitem__, video_order.tolist())),
        event_types=events.event_types,
        actor_ids=events.actor_ids,
        video_index=place_in_part[events.video_index[order]],
        event_type_index=events.event_type_index[order],
        actor_index=None if events.actor_index is None else events.actor_index[order],
        time_us=None if events.time_us is None else events.time_us[order],
        value=None if events.value is None else events.value[order],
        video_hashes=hashes[video_order],
    )
    video_edges, event_edges = video_bounds.tolist(), event_bounds.tolist()
    for partition in np.flatnonzero(sizes).tolist():
        videos = slice(video_edges[partition], video_edges[partition + 1])
        chosen = slice(event_edges[partition], event_edges[partition + 1])
        yield partition, _part(sorted_events, videos, chosen)


def _with_used_videos(events: Events) -> Events:
    """Leave the videos out of the dictionary that no event has."""
    is_used = np.bincount(events.video_index, minlength=len(events.video_ids)) > 0
    if is_used.all():
        return events
    video_ids = [events.video_ids[place] for place in np.flatnonzero(is_used).tolist()]
    places = np.cumsum(is_used) - 1
    index = places[events.video_index].astype(np.uint16)
    return replace(events, video_ids=video_ids, video_index=index, video_hashes=None)


def _sort(
    partitions: npt.NDArray[np.uint16], partition_count: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The order by partition, which keeps the order within each, and where each partition begins and ends in it."""
    bounds = np.zeros(partition_count + 1, np.intp)
    np.cumsum(np.bincount(partitions, minlength=partition_count), out=bounds[1:])
    return np.argsort(partitions, kind="stable"), bounds


def _part(events: Events, videos: slice, chosen: slice) -> Events:
    event_types, event_type_index = events.event_types, events.event_type_index[chosen]
    if len(event_types) > _FEW_TYPES:
        event_types, event_type_index = narrow(event_types, event_type_index)
    actor_ids: list[str] = []
    actor_index = None
    if events.actor_index is not None:
        actor_index = events.actor_index[chosen].copy()
        has_actor = actor_index != NO_ACTOR
        actor_ids, actor_index[has_actor] = narrow(events.actor_ids, actor_index[has_actor])
    return Events(
        video_ids=events.video_ids[videos],
        event_types=event_types,
        actor_ids=actor_ids,
        video_index=events.video_index[chosen],
        event_type_index=event_type_index,
        actor_index=actor_index,
        time_us=None if events.time_us is None else events.time_us[chosen],
        value=None if events.value is None else events.value[chosen],
        video_hashes=None if events.video_hashes is None else events.video_hashes[videos],
    )
