"""The exact counts, without any store, and what is wrong with those of a store."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtests.bench.events import EVENT_TYPES, Cursor, Events

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Counts:
    """All counts of a store, a row for each video and event type that it has."""

    video_ids: list[str]
    event_types: list[str]
    counts: list[int]


def count_exactly(cursor: Cursor) -> npt.NDArray[np.int64]:
    """The count of each code, of all that the cursor gave out."""
    events = cursor.events
    passes, rest = divmod(cursor.taken, len(events))
    counts = np.bincount(events.codes(rest), minlength=events.code_count)
    if passes:
        counts += passes * np.bincount(events.codes(len(events)), minlength=events.code_count)
    return counts


def find_fault(cursor: Cursor, counts: Counts) -> str | None:
    """None when the store has exactly what was sent, for every video and event type; otherwise what is wrong."""
    expected = count_exactly(cursor)
    counted, unknown = _by_code(cursor.events, counts)
    wrong = np.flatnonzero(counted != expected)
    if not len(wrong) and not unknown:
        return None
    found = [_tell(cursor.events, code, counted[code], expected[code]) for code in wrong[:_SHOWN].tolist()]
    found += [f"{unknown:,} rows are of videos or types that were never sent"] if unknown else []
    return (
        f"not exact: {counted.sum():,} events counted of {expected.sum():,}, {len(wrong):,} counts are wrong; "
        + "; ".join(found)
    )


def _by_code(events: Events, counts: Counts) -> tuple[npt.NDArray[np.int64], int]:
    videos = {video_id: number for number, video_id in enumerate(events.video_ids)}
    types = {name: number for number, name in enumerate(EVENT_TYPES)}
    counted = np.zeros(events.code_count, np.int64)
    unknown = 0
    for video_id, name, count in zip(counts.video_ids, counts.event_types, counts.counts, strict=True):
        video, event_type = videos.get(video_id), types.get(name)
        if video is None or event_type is None:
            unknown += 1
        else:
            counted[video * len(EVENT_TYPES) + event_type] += count
    return counted, unknown


def _tell(events: Events, code: int, counted: int, expected: int) -> str:
    video, event_type = divmod(code, len(EVENT_TYPES))
    return f"{EVENT_TYPES[event_type]} of {events.video_ids[video]}: {counted:,} instead of {expected:,}"
