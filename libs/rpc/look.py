"""A look at the wire format of a request before it is parsed: how many objects would it become?

Parsing 8 MiB of `12 00 12 00 …` makes four million objects of a hundred bytes each. So elements of repeated fields are
counted first. Nearly every request is cleared by its length, or by counting the bytes that can begin an element, which
takes microseconds; only what is left is walked, and the walk ends at the limit.

Format: https://protobuf.dev/programming-guides/encoding/
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import or_

import numpy as np

from tally.contract.errors import InvalidRequest, Violation
from tally.contract.rules import MAX_EVENTS, MAX_REQUEST_BYTES

Look = Callable[[bytes], None]
"""Raises InvalidRequest for a request that must not be parsed."""

CLEARED_ELEMENTS = 200_000
"""So many elements are parsed without being counted exactly: they take some 20 MiB for as long as that lasts."""
MAX_ENTRIES = 20_000
"""Entries in one Append: the limit of a shard's queue."""
MAX_APPEND_NAMES = 10 * MAX_EVENTS
"""Names in the payloads of one Append, all dictionaries together."""

_MIN_ELEMENT_BYTES = 2
_CHUNK_BYTES = 1 << 16
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MORE = 0x80
_MAX_VARINT_BYTES = 10


@dataclass(frozen=True, slots=True)
class Part:
    """A field of message, string or bytes that is counted, looked into, or both.

    `most` is how many elements of that `name` a request may have, None without a limit; parts of the same name are
    counted together. `inner` are the parts of the message inside, by field number.
    """

    name: str
    most: int | None = None
    inner: Mapping[int, "Part"] = field(default_factory=dict)


def make_look(parts: Mapping[int, Part], max_bytes: int | None) -> Look:
    """A look at messages with these parts, by field number; None: up to the limit of the transport."""
    return partial(_look, parts, _common_bits(_tags(parts)), max_bytes)


def _look(parts: Mapping[int, Part], common: tuple[int, int], max_bytes: int | None, data: bytes) -> None:
    if max_bytes is not None and len(data) > max_bytes:
        raise too_large(len(data))
    if (
        parts
        and len(data) > _MIN_ELEMENT_BYTES * CLEARED_ELEMENTS
        and _most(data, *common) > CLEARED_ELEMENTS
    ):
        _walk(data, 0, len(data), parts, Counter())


def _most(data: bytes, mask: int, value: int) -> int:
    """How many elements there can be at most: each has a byte of its own with these bits, the first of its tag."""
    found = 0
    for start in range(0, len(data), _CHUNK_BYTES):
        chunk = np.frombuffer(data, np.uint8, min(_CHUNK_BYTES, len(data) - start), start)
        found += int(np.count_nonzero((chunk & mask) == value))
    return found


def too_large(size: int) -> InvalidRequest:
    """The refusal of a request of this size."""
    return InvalidRequest(
        [Violation("request", f"must be at most {MAX_REQUEST_BYTES:,} bytes, and has {size:,}; cut it")]
    )


def _tags(parts: Mapping[int, Part]) -> set[int]:
    """The tags of the counted parts, as they are usually written: in one byte."""
    tags: set[int] = set()
    for number, part in parts.items():
        if part.most is not None:
            tags.add(number << 3 | _LENGTH)
        tags |= _tags(part.inner)
    return tags


def _common_bits(tags: set[int]) -> tuple[int, int]:
    """A mask and what is left of all these tags under it, of their first byte where they take more than they need."""
    first = next(iter(tags), 0)
    mask = 0x7F & ~reduce(or_, (tag ^ first for tag in tags), 0)
    return mask, first & mask


def _walk(data: bytes, position: int, end: int, parts: Mapping[int, Part], counts: Counter[str]) -> None:
    """Count the elements from a position to an end. Raises InvalidRequest where there are too many.

    What is cut off or out of shape ends the walk: the parser refuses it.
    """
    while position < end:
        tag, position = _read_varint(data, position, end)
        kind = tag & 7
        if kind == _LENGTH:
            size, position = _read_varint(data, position, end)
            part = parts.get(tag >> 3)
            if part is not None:
                if part.most is not None:
                    counts[part.name] += 1
                    if counts[part.name] > part.most:
                        raise InvalidRequest(
                            [Violation(part.name, f"must be at most {part.most:,}; cut the request")]
                        )
                if part.inner:
                    _walk(data, position, min(position + size, end), part.inner, counts)
            position += size
        elif kind == _VARINT:
            position = _read_varint(data, position, end)[1]
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        else:  # groups, which no message of the api has
            raise InvalidRequest([Violation("request", "is not a well-formed message: it holds a group")])


def _read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number, and the position behind it; the end where it is cut off or too long."""
    if position >= end:
        return 0, end
    byte = data[position]
    if byte < _MORE:
        return byte, position + 1
    number, shift = byte & 0x7F, 7
    for place in range(position + 1, min(position + _MAX_VARINT_BYTES, end)):
        byte = data[place]
        number |= (byte & 0x7F) << shift
        if byte < _MORE:
            return number, place + 1
        shift += 7
    return 0, end


def _columns(name: str, most: int, one_name: bool = False) -> Mapping[int, Part]:
    """The dictionaries of an EventColumns; counted each by itself, or together under one name."""
    dictionaries = {1: "video_ids", 2: "event_types", 3: "actor_ids"}
    return {
        number: Part(name if one_name else f"{name}.{each}", most) for number, each in dictionaries.items()
    }


_EVENTS = {2: Part("events", MAX_EVENTS), 3: Part("columns", inner=_columns("columns", MAX_EVENTS))}
_ENTRIES = {
    2: Part(
        "entries",
        MAX_ENTRIES,
        {5: Part("payload", inner=_columns("entries.payload", MAX_APPEND_NAMES, True))},
    )
}

look_at_request: Look = make_look({}, MAX_REQUEST_BYTES)
"""At a request without repeated fields."""
look_at_events: Look = make_look(_EVENTS, MAX_REQUEST_BYTES)
"""At a ProcessEventsRequest."""
look_at_batch: Look = make_look({1: Part("batch", inner=_EVENTS)}, None)
"""At a StreamEventsRequest. A batch that is too large is refused after parsing; the stream continues."""
look_at_append: Look = make_look(_ENTRIES, None)
"""At an AppendRequest, whose one entry may be larger than its request."""

_PUTS = 1_000
_NAMES = 20_000
_RULES = 1_000
look_at_puts: Look = make_look({1: Part("puts", _PUTS)}, None)
"""At a PutResourcesRequest, whose details may be long."""
look_at_find: Look = make_look(
    {2: Part("filters", 16, {1: Part("filters.any", 16 * 64)}), 10: Part("facets", 16)}, MAX_REQUEST_BYTES
)
"""At a FindRequest."""
look_at_ids: Look = make_look({1: Part("ids", _PUTS)}, MAX_REQUEST_BYTES)
"""At a BatchGetResourcesRequest."""
look_at_rules: Look = make_look(
    {2: Part("rules", _RULES, {number: Part("rules.codes", 100 * _RULES) for number in (1, 2, 3)})},
    MAX_REQUEST_BYTES,
)
"""At a PutRulesRequest."""
look_at_codes: Look = make_look(
    {1: Part("dimension", 1, {2: Part("dimension.codes", _NAMES)})}, MAX_REQUEST_BYTES
)
"""At a PutDimensionRequest."""

_LOOKS: Mapping[str, Look] = {
    "/tally.catalog.v1.FindService/Find": look_at_find,
    "/tally.catalog.v1.ResourceService/PutResources": look_at_puts,
    "/tally.catalog.v1.ResourceService/BatchGetResources": look_at_ids,
    "/tally.catalog.v1.RightsService/PutRules": look_at_rules,
    "/tally.catalog.v1.RightsService/PutDimension": look_at_codes,
    "/tally.ingest.v1.IngestService/ProcessEvents": look_at_events,
    "/tally.ingest.v1.IngestService/StreamEvents": look_at_batch,
    "/tally.counting.v1.CountingService/Append": look_at_append,
}


def look_for(method: str) -> Look:
    """What looks at the requests of `/service/method`."""
    return _LOOKS.get(method, look_at_request)
