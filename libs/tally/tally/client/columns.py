"""Many events as columns: what `process_many` and streams send.

Each string is sent once and events point at it; every other column holds one number of fixed width for each
event, little-endian. See EventColumns in ingest.proto.
"""

import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import isnan, nan
from typing import Any

from tally.client.errors import InvalidRequest
from tally.client.events import Event, check_function
from tally.client.times import to_microseconds
from tally.ingest.v1 import ingest_pb2

MAX_EVENTS = 50_000
NO_ACTOR = 0xFFFF
NO_TIME = -(2**63)


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
        videos: dict[str, int] = {}
        types: dict[str, int] = {}
        actors: dict[str, int] = {}
        video_index, type_index, actor_index = array("H"), array("H"), array("H")
        times, values = array("q"), array("d")
        has_time = has_value = False
        # The limit keeps every index below 65535, which means "none".
        for at, event in enumerate(islice(events, MAX_EVENTS + 1)):
            video_index.append(videos.setdefault(event.video_id, len(videos)))
            type_index.append(types.setdefault(event.event_type, len(types)))
            actor_index.append(actors.setdefault(event.actor_id, len(actors)) if event.actor_id else NO_ACTOR)
            if event.event_time is None:
                times.append(NO_TIME)
            else:
                times.append(to_microseconds(event.event_time, f"events[{at}].event_time"))
                has_time = True
            if event.value is None:
                values.append(nan)
            elif isnan(event.value):
                raise InvalidRequest.of(f"events[{at}].value", "is not a number; leave it out instead")
            else:
                values.append(event.value)
                has_value = True
            if event.function is not None:
                check_function(event, f"events[{at}]")
        return cls(
            video_ids=tuple(videos),
            event_types=tuple(types),
            actor_ids=tuple(actors),
            video_index=to_little_endian(video_index),
            event_type_index=to_little_endian(type_index),
            actor_index=to_little_endian(actor_index) if actors else b"",
            event_time_us=to_little_endian(times) if has_time else b"",
            value=to_little_endian(values) if has_value else b"",
        )

    def to_message(self) -> ingest_pb2.EventColumns:
        """The columns on the wire."""
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


def to_little_endian(numbers: "array[Any]", byteorder: str = sys.byteorder) -> bytes:
    """The bytes of the numbers, least significant first. `byteorder`: that of the array."""
    if byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


@dataclass(frozen=True, slots=True)
class Batch:
    """Events with the request id under which they go, however often they are sent."""

    request_id: str
    columns: Columns

    def to_message(self) -> ingest_pb2.ProcessEventsRequest:
        """The batch on the wire."""
        return ingest_pb2.ProcessEventsRequest(request_id=self.request_id, columns=self.columns.to_message())
