"""The content of writes: events, and the aggregates for which they are meant."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tally.client._checks.times import to_timestamp
from tally.client._checks.wrong_type import refuse_wrong_types, wrong_type
from tally.contract import function
from tally.contract.errors import InvalidRequest
from tally.contract.rules import VIEW
from tally.ingest.v1 import ingest_pb2


class Function(StrEnum):
    """An aggregate over the events of one video and event type."""

    COUNT = "count"
    SUM = "sum"
    AVERAGE = "average"
    MIN = "min"
    MAX = "max"
    STDDEV = "stddev"
    DISTINCT = "distinct"
    QUANTILE = "quantile"

    @classmethod
    def of(cls, name: str) -> "Function":
        """The function of that name; InvalidRequest lists the names."""
        try:
            return cls(name)
        except ValueError:
            raise InvalidRequest.of("function", f"{name!r} is none of {', '.join(cls)}") from None

    @property
    def number(self) -> function.Function:
        """Its number in the protos."""
        return function.Function[self.name]

    @property
    def proto_name(self) -> str:
        """Its name in the protos, which a message takes for the number."""
        return f"FUNCTION_{self.name}"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a video.

    `event_time`: aware; None means when it is received. `value`: a finite number within ±2^53, for example
    seconds watched. `function`: the aggregate that the caller has in mind; it is only checked against what
    the event carries, every event is counted and every value feeds every statistic.
    """

    video_id: str
    event_type: str = VIEW
    event_time: datetime | None = None
    value: float | None = None
    actor_id: str = ""
    function: Function | None = None

    def to_message(self) -> ingest_pb2.Event:
        """The event on the wire."""
        for field in ("video_id", "event_type", "actor_id"):  # protobuf takes None and bytes, too
            if not isinstance(text := getattr(self, field), str):
                raise wrong_type(f"event.{field}", "a str", text)
        with refuse_wrong_types("event"):
            return ingest_pb2.Event(
                video_id=self.video_id,
                event_type=self.event_type,
                event_time=to_timestamp(self.event_time, "event.event_time"),
                value=self.value,
                actor_id=self.actor_id,
                function=self.function.proto_name if self.function else None,
            )


def check_function(event: Event, field: str) -> None:
    """Raise InvalidRequest when the event does not carry what its function needs. `field`: its path.

    The service does the same, where it is told the function; columns have no place for one.
    """
    if event.function is None:
        return
    if event.function.number in function.NEEDS_ACTOR and not event.actor_id:
        raise InvalidRequest.of(f"{field}.actor_id", f"the function {event.function} needs an actor")
    if event.function.number in function.NEEDS_VALUE and event.value is None:
        raise InvalidRequest.of(f"{field}.value", f"the function {event.function} needs a value")
