"""Many events as columns: the content of a request of many events.

Each string is sent once and events point at it; every other column holds one number of fixed width for each
event, little-endian. See EventColumns in ingest.proto.
"""

import sys
from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, repeat
from math import isnan, nan
from typing import Any

from tally.client._checks.rules import check_actor_id, check_event_type, check_number, check_video_id
from tally.client._checks.times import to_microseconds
from tally.client._checks.wrong_type import refuse_wrong_types
from tally.client.events import Event, check_function
from tally.contract.errors import InvalidRequest
from tally.contract.rules import MAX_EVENTS, MAX_REQUEST_BYTES, NO_ACTOR, NO_TIME
from tally.ingest.v1 import ingest_pb2

NUMBERS_BYTES = 2 + 2 + 2 + 8 + 8
"""Maximum size of the numbers of one event; new strings add to it."""
_TAG_BYTES = 4
"""Before each string: its field and its length, with some room."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Events in the form in which they are sent. `Columns.of(events)` makes it; a caller that has columns
    already (of an array library, say) fills the fields as EventColumns in ingest.proto describes them.
    """

    video_ids: tuple[str, ...]
    event_types: tuple[str, ...]
    video_index: bytes
    event_type_index: bytes
    actor_ids: tuple[str, ...] = ()
    actor_index: bytes = b""
    event_time_us: bytes = b""
    value: bytes = b""

    def __len__(self) -> int:
        """How many events there are."""
        return len(self.video_index) // 2

    @classmethod
    def of(cls, events: Iterable[Event]) -> "Columns":
        """Lay out up to 50,000 events; InvalidRequest names the first that cannot be sent, and why."""
        layout = Layout()
        # The limit keeps every index below 65535, which means "none".
        for at, event in enumerate(islice(events, MAX_EVENTS + 1)):
            try:
                if event.value is not None and isnan(event.value):
                    raise InvalidRequest.of(f"events[{at}].value", "is not a number; leave it out instead")
                if event.function is not None:
                    check_function(event, f"events[{at}]")
                time = event.event_time
                time_us = None if time is None else to_microseconds(time, f"events[{at}].event_time")
                layout.add(event.video_id, event.event_type, time_us, event.value, event.actor_id)
            except (AttributeError, TypeError, OverflowError) as error:
                if isinstance(event, Event) and event.value is not None:
                    check_number(event.value, f"events[{at}].value")
                raise InvalidRequest.of(f"events[{at}]", f"cannot be sent: {error}") from error
        columns = layout.columns()
        for field in ("video_ids", "event_types", "actor_ids"):  # protobuf takes bytes, too
            names: tuple[object, ...] = getattr(columns, field)
            for kind in set(map(type, names)):
                if not issubclass(kind, str):
                    raise InvalidRequest.of(field, f"must be str, not {kind.__name__}")
        return columns

    def to_message(self) -> ingest_pb2.EventColumns:
        """The columns on the wire."""
        with refuse_wrong_types("columns"):
            return ingest_pb2.EventColumns(
                video_ids=self.video_ids,
                event_types=self.event_types,
                actor_ids=self.actor_ids,
                video_index=self.video_index,
                event_type_index=self.event_type_index,
                actor_index=self.actor_index,
                event_time_us=self.event_time_us,
                value=self.value,
            )


class Layout:
    """Columns that are being filled, one event after the other, in about a microsecond each.

    A column that no event has needed so far is empty; the first that does fills it up for those before.
    """

    __slots__ = (
        "_actor_index",
        "_actors",
        "_is_checked",
        "_is_wide",
        "_times",
        "_type_index",
        "_types",
        "_values",
        "_video_index",
        "_videos",
        "text_bytes",
    )

    def __init__(self, *, is_checked: bool = False) -> None:
        """`is_checked`: every string is held against the rules, once, when it is new."""
        self._is_checked = is_checked
        self._is_wide = False
        self._videos: dict[str, int] = {}
        self._types: dict[str, int] = {}
        self._actors: dict[str, int] = {}
        self._video_index, self._type_index, self._actor_index = array("H"), array("H"), array("H")
        self._times, self._values = array("q"), array("d")
        self.text_bytes = 0
        """what the different strings take on the wire, if they are checked"""

    def __len__(self) -> int:
        """How many events there are."""
        return len(self._video_index)

    def add(
        self, video_id: str, event_type: str, time_us: int | None, value: float | None, actor_id: str
    ) -> None:
        """Add one event, or raise InvalidRequest and add nothing. `time_us`: since 1970-01-01 UTC."""
        video = self._videos.get(video_id)
        kind = self._types.get(event_type)
        actor = self._actors.get(actor_id) if actor_id else NO_ACTOR
        if video is None or kind is None or actor is None:
            if self._is_checked:
                self.text_bytes += (
                    (_TAG_BYTES + check_video_id(video_id) if video is None else 0)
                    + (_TAG_BYTES + check_event_type(event_type) if kind is None else 0)
                    + (_TAG_BYTES + check_actor_id(actor_id) if actor is None else 0)
                )
            video = self._videos.setdefault(video_id, len(self._videos))
            kind = self._types.setdefault(event_type, len(self._types))
            actor = self._actors.setdefault(actor_id, len(self._actors)) if actor_id else NO_ACTOR
        if value is not None or time_us is not None or actor_id or self._is_wide:
            self._add_rest(time_us, value, actor if actor_id else None)
        self._type_index.append(kind)
        self._video_index.append(video)

    def _add_rest(self, time_us: int | None, value: float | None, actor: int | None) -> None:
        """Add what most events lack, while the column of videos still has the length before this event."""
        self._is_wide = True
        _append(self._times, time_us, NO_TIME, len(self))
        _append(self._values, value, nan, len(self))
        _append(self._actor_index, actor, NO_ACTOR, len(self))

    def columns(self) -> Columns:
        """The events so far."""
        return Columns(
            video_ids=tuple(self._videos),
            event_types=tuple(self._types),
            actor_ids=tuple(self._actors),
            video_index=to_little_endian(self._video_index),
            event_type_index=to_little_endian(self._type_index),
            actor_index=to_little_endian(self._actor_index),
            event_time_us=to_little_endian(self._times),
            value=to_little_endian(self._values),
        )

    def without(self, places: Collection[int]) -> "Layout":
        """The same events in the same order, but for those at `places`."""
        rest = Layout(is_checked=self._is_checked)
        videos, types, actors = list(self._videos), list(self._types), list(self._actors)
        for at, (video, kind) in enumerate(zip(self._video_index, self._type_index, strict=True)):
            if at in places:
                continue
            actor = self._actor_index[at] if self._actor_index else NO_ACTOR
            time_us = self._times[at] if self._times else NO_TIME
            value = self._values[at] if self._values else nan
            rest.add(
                videos[video],
                types[kind],
                None if time_us == NO_TIME else time_us,
                None if isnan(value) else value,
                "" if actor == NO_ACTOR else actors[actor],
            )
        return rest


def _append(column: "array[Any]", number: float | None, absent: float, length: int) -> None:
    if number is None:
        if column:
            column.append(absent)
    else:
        if not column:
            column.extend(repeat(absent, length))
        column.append(number)


def columns_of(events: Iterable[Event] | Columns) -> Columns:
    """The events of one request. Raises InvalidRequest when they are none, or too many."""
    columns = events if isinstance(events, Columns) else Columns.of(events)
    if not 1 <= len(columns) <= MAX_EVENTS:
        raise InvalidRequest.of("events", f"a request has 1 to {MAX_EVENTS:,} events, not {len(columns):,}")
    return columns


def to_little_endian(numbers: "array[Any]", byteorder: str = sys.byteorder) -> bytes:
    """The bytes of the numbers, least significant first. `byteorder`: that of the array."""
    if byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


@dataclass(frozen=True)
class Batch:
    """Events with the request id under which they go, however often they are sent."""

    request_id: str
    columns: Columns

    def to_message(self) -> ingest_pb2.ProcessEventsRequest:
        """The batch on the wire."""
        return ingest_pb2.ProcessEventsRequest(request_id=self.request_id, columns=self.columns.to_message())

    @cached_property
    def payload(self) -> bytes:
        """The same in bytes, made once, so that every attempt sends the same.

        Raises InvalidRequest when they are more than a request may have.
        """
        payload = self.to_message().SerializeToString()
        if len(payload) > MAX_REQUEST_BYTES:
            raise InvalidRequest.of(
                "request", f"{len(payload):,} bytes are more than the {MAX_REQUEST_BYTES:,} that one may have"
            )
        return payload
