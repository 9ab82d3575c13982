"""Between the message EventColumns and `libs.domain.events.Events`: columns of fixed width, little-endian."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from libs.domain.errors import MAX_VIOLATIONS, InvalidRequest, Violation
from libs.domain.events import NO_ACTOR, Events
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
    batches = [_parse(payload, path_of(place)) for place, payload in enumerate(payloads)]
    video_ids = [list(columns.video_ids) for columns in batches]
    event_types = [list(columns.event_types) for columns in batches]
    video_index = _indexes([columns.video_index for columns in batches], video_ids)
    event_type_index = _indexes([columns.event_type_index for columns in batches], event_types)
    if video_index is None or event_type_index is None or not _fit(video_index, event_type_index):
        return [
            decode(columns, path_of(place)) for place, columns in enumerate(batches)
        ]  # which says what is wrong
    parts = zip(batches, video_ids, event_types, video_index, event_type_index, strict=True)
    return [_with_optional(*part, path_of(place)) for place, part in enumerate(parts)]


def decode(columns: EventColumns, path: str = "columns") -> Events:
    """Read a batch. The arrays are read-only views of the message's bytes.

    Raises InvalidRequest when a column's length or an index does not fit; `path` is the message's own.
    """
    video_ids, event_types = list(columns.video_ids), list(columns.event_types)
    video_index = _index(columns.video_index, len(video_ids), None, f"{path}.video_index", None)
    event_type_index = _index(
        columns.event_type_index, len(event_types), len(video_index), f"{path}.event_type_index", None
    )
    return _with_optional(columns, video_ids, event_types, video_index, event_type_index, path)


def _parse(payload: bytes, path: str) -> EventColumns:
    try:
        return EventColumns.FromString(payload)
    except DecodeError as error:
        raise InvalidRequest([Violation(path, f"is not a well-formed EventColumns ({error})")]) from error


def _with_optional(
    columns: EventColumns,
    video_ids: list[str],
    event_types: list[str],
    video_index: _Index,
    event_type_index: _Index,
    path: str,
) -> Events:
    """The batch with those columns that may be missing."""
    n = len(video_index)
    actor_ids, actor_index = list(columns.actor_ids), columns.actor_index
    time_us, value = columns.event_time_us, columns.value
    return Events(
        video_ids=video_ids,
        event_types=event_types,
        actor_ids=actor_ids,
        video_index=video_index,
        event_type_index=event_type_index,
        actor_index=_index(actor_index, len(actor_ids), n, f"{path}.actor_index", NO_ACTOR)
        if actor_index
        else None,
        time_us=_column(time_us, _TIME, n, f"{path}.event_time_us").astype(np.int64, copy=False)
        if time_us
        else None,
        value=_column(value, _VALUE, n, f"{path}.value").astype(np.float64, copy=False) if value else None,
    )


def _indexes(columns: Sequence[bytes], dictionaries: Sequence[Sequence[str]]) -> list[_Index] | None:
    """The index column of each batch, as pieces of one array; None when one does not fit its dictionary."""
    width = _INDEX.itemsize
    lengths = [len(column) for column in columns]
    if any(length % width for length in lengths):
        return None
    ends = np.cumsum(np.array(lengths, np.intp)) // width
    index = np.frombuffer(b"".join(columns), _INDEX).astype(np.uint16, copy=False)
    sizes = np.array([len(dictionary) for dictionary in dictionaries])
    if (index >= np.repeat(sizes, np.diff(ends, prepend=0))).any():
        return None
    edges = [0, *ends.tolist()]
    return [index[start:end] for start, end in pairwise(edges)]


def _fit(some: Sequence[_Index], others: Sequence[_Index]) -> bool:
    return [*map(len, some)] == [*map(len, others)]


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
