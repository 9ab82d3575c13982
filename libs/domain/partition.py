"""From a video to its partition, and from a request to its entries. Frozen by test vectors."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from libs.domain.events import NO_ACTOR, Events


def partition_of(video_id: str, partition_count: int) -> int:
    """XXH3 (64 bits, seed 0) of the id's UTF-8 bytes, unsigned, modulo the partition count."""
    return xxhash.xxh3_64_intdigest(video_id.encode()) % partition_count


def partitions_of(video_ids: Sequence[str], partition_count: int) -> npt.NDArray[np.int64]:
    """(len(video_ids),) the partition of each id."""
    return np.fromiter(
        (partition_of(video_id, partition_count) for video_id in video_ids), np.int64, len(video_ids)
    )


def cut(events: Events, partition_count: int) -> Iterator[tuple[int, Events]]:
    """Cut a batch into one part for each partition that it touches, in ascending order of partition.

    The cut depends on the events and the partition count alone, so that a retry is cut the same way. Within
    a part the events keep their order, and its dictionaries hold only what it uses.
    """
    partition_of_video = partitions_of(events.video_ids, partition_count)
    partition_of_event = partition_of_video[events.video_index]
    order = np.argsort(partition_of_event, kind="stable")
    touched, starts = np.unique(partition_of_event[order], return_index=True)
    for partition, chosen in zip(touched.tolist(), np.split(order, starts[1:]), strict=True):
        yield partition, _part(events, chosen)


def _part(events: Events, chosen: npt.NDArray[np.intp]) -> Events:
    video_ids, video_index = _narrow(events.video_ids, events.video_index[chosen])
    if len(events.event_types) == 1:
        event_types, event_type_index = events.event_types, events.event_type_index[chosen]
    else:
        event_types, event_type_index = _narrow(events.event_types, events.event_type_index[chosen])
    actor_ids: list[str] = []
    actor_index = None
    if events.actor_index is not None:
        actor_index = events.actor_index[chosen]
        has_actor = actor_index != NO_ACTOR
        actor_ids, actor_index[has_actor] = _narrow(events.actor_ids, actor_index[has_actor])
    return Events(
        video_ids=video_ids,
        event_types=event_types,
        actor_ids=actor_ids,
        video_index=video_index,
        event_type_index=event_type_index,
        actor_index=actor_index,
        time_us=None if events.time_us is None else events.time_us[chosen],
        value=None if events.value is None else events.value[chosen],
    )


def _narrow(dictionary: list[str], index: npt.NDArray[np.uint16]) -> tuple[list[str], npt.NDArray[np.uint16]]:
    """Leave out of a dictionary what the index does not use."""
    used, narrowed = np.unique(index, return_inverse=True)
    return [dictionary[place] for place in used.tolist()], narrowed.astype(np.uint16)
