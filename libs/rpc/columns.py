"""Between the message EventColumns and `libs.domain.events.Events`: columns of fixed width, little-endian."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from libs.domain.events import Events
from tally.contract.errors import MAX_VIOLATIONS, InvalidRequest, Violation
from tally.contract.rules import NO_ACTOR
from tally.ingest.v1.ingest_pb2 import EventColumns

_INDEX = np.dtype("<u2")
_TIME = np.dtype("<i8")
_VALUE = np.dtype("<f8")

_Index = npt.NDArray[np.uint16]


def encode(events: Events) -> EventColumns:
    """Write a batch as the message that clients send and entries are made of."""
    return EventColumns(
        video_ids=events.video_ids,
        event_types=events.event_types,
        actor_ids=events.actor_ids,
        video_index=events.video_index.astype(_INDEX, copy=False).tobytes(),
        event_type_index=events.event_type_index.astype(_INDEX, copy=False).tobytes(),
        actor_index=b""
        if events.actor_index is None
        else events.actor_index.astype(_INDEX, copy=False).tobytes(),
        event_time_us=b"" if events.time_us is None else events.time_us.astype(_TIME, copy=False).tobytes(),
        value=b"" if events.value is None else events.value.astype(_VALUE, copy=False).tobytes(),
    )


def parse(payload: bytes, path: str) -> Events:
    """Read an entry's payload, a serialized EventColumns. Raises InvalidRequest when it is none, and as `decode`."""
    return decode(_parse(payload, path), path)


def parse_all(payloads: Sequence[bytes], path_of: Callable[[int], str]) -> list[Events]:
    """Read payloads, each as `parse` does; `path_of` its place is the path of one.

    The indexes of all of them are checked at once, because for batches of some ten events each call of numpy costs
    more than what it does.
    """
    try:
        batches = [EventColumns.FromString(payload) for payload in payloads]
        return _decode_plain(batches)
    except (DecodeError, _NotPlain):
        return [parse(payload, path_of(place)) for place, payload in enumerate(payloads)]


def decode(columns: EventColumns, path: str = "columns") -> Events:
    """Read a batch. The arrays are read-only views of the message's bytes.

    Raises InvalidRequest when a column's length or an index does not fit; `path` is the message's own.
    """
    video_index = _index(columns.video_index, len(columns.video_ids), None, f"{path}.video_index", None)
    n = len(video_index)
    actor_index = columns.actor_index
    time_us, value = columns.event_time_us, columns.value
    return Events(
        video_ids=list(columns.video_ids),
        event_types=list(columns.event_types),
        actor_ids=list(columns.actor_ids),
        video_index=video_index,
        event_type_index=_index(
            columns.event_type_index, len(columns.event_types), n, f"{path}.event_type_index", None
        ),
        actor_index=_index(actor_index, len(columns.actor_ids), n, f"{path}.actor_index", NO_ACTOR)
        if actor_index
        else None,
        time_us=_column(time_us, _TIME, n, f"{path}.event_time_us").astype(np.int64, copy=False)
        if time_us
        else None,
        value=_column(value, _VALUE, n, f"{path}.value").astype(np.float64, copy=False) if value else None,
    )


def _parse(payload: bytes, path: str) -> EventColumns:
    try:
        return EventColumns.FromString(payload)
    except DecodeError as error:
        raise InvalidRequest([Violation(path, f"is not a well-formed EventColumns ({error})")]) from error


class _NotPlain(Exception):
    """A batch has columns that most do not have, or is wrong: it is to be looked at by itself."""


def _decode_plain(batches: Sequence[EventColumns]) -> list[Events]:
    """Read batches of good indexes and no other columns. Raises _NotPlain."""
    if any(each.actor_index or each.event_time_us or each.value or each.actor_ids for each in batches):
        raise _NotPlain
    video_ids = [list(columns.video_ids) for columns in batches]
    event_types = [list(columns.event_types) for columns in batches]
    video_columns = [columns.video_index for columns in batches]
    type_columns = [columns.event_type_index for columns in batches]
    lengths = [*map(len, video_columns)]
    if lengths != [*map(len, type_columns)] or any(length % _INDEX.itemsize for length in lengths):
        raise _NotPlain
    counts = [length // _INDEX.itemsize for length in lengths]
    video_index = _join(video_columns, video_ids, counts)
    event_type_index = _join(type_columns, event_types, counts)
    events, start = [], 0
    for place, count in enumerate(counts):
        piece = slice(start, start + count)
        events.append(
            Events(video_ids[place], event_types[place], [], video_index[piece], event_type_index[piece])
        )
        start += count
    return events


def _join(columns: Sequence[bytes], dictionaries: Sequence[Sequence[str]], counts: Sequence[int]) -> _Index:
    """Index columns one after the other. Raises _NotPlain when one of them does not fit its dictionary."""
    index = np.frombuffer(b"".join(columns), _INDEX).astype(np.uint16, copy=False)
    sizes = np.array([*map(len, dictionaries)], np.uint32)
    if (index >= np.repeat(sizes, counts)).any():
        raise _NotPlain
    return index


def _column(data: bytes, dtype: np.dtype[np.generic], n: int | None, path: str) -> npt.NDArray[np.generic]:
    width = dtype.itemsize
    if len(data) % width or (n is not None and len(data) != n * width):
        of = "for each event" if n is None else f"for each of the {n} events"
        raise InvalidRequest([Violation(path, f"must have {width} bytes {of}, and has {len(data)}")])
    return np.frombuffer(data, dtype)


def _index(data: bytes, dictionary_size: int, n: int | None, path: str, none: int | None) -> _Index:
    index = _column(data, _INDEX, n, path).astype(np.uint16, copy=False)
    outside = index >= dictionary_size
    if none is not None:
        outside &= index != none
    if outside.any():
        places = np.flatnonzero(outside)
        raise InvalidRequest(
            [
                Violation(
                    f"{path}[{place}]", f"is {index[place]}, and its dictionary has {dictionary_size} entries"
                )
                for place in places[:MAX_VIOLATIONS].tolist()
            ],
            total=len(places),
        )
    return index
