"""Videos and channels as members of the scheduler's populations."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tally.contract.errors import InvalidRequest, Violation
from tally.scheduler.v1 import population_pb2 as pb

MOST_ROWS = 5_000
"""in one message"""
MOST_BYTES = 4 * 1024 * 1024
"""in one message, unless a single row is larger"""
_ROW = re.compile(r"(\w+)\[(\d+)\](.*)", re.ASCII | re.DOTALL)

Message = TypeVar("Message", pb.Video, pb.Channel)


@dataclass(frozen=True, slots=True)
class Video:
    """A video. None keeps what is stored; for a new video the two flags are then false.

    `youtube_id` and `channel_id`: 1 to 128 bytes. `title`: at most 4,096 bytes. `is_oon`: whether it is out of network.
    """

    youtube_id: str
    channel_id: str | None = None
    title: str | None = None
    is_oon: bool | None = None
    has_label_association: bool | None = None

    def to_message(self) -> pb.Video:
        return pb.Video(
            youtube_id=self.youtube_id,
            channel_id=self.channel_id,
            title=self.title,
            is_oon=self.is_oon,  # type: ignore[arg-type]  # the stub of an optional bool lacks None
            has_label_association=self.has_label_association,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel. None keeps what is stored; for a new channel the two flags are then false.

    `youtube_id`: 1 to 128 bytes. `title`: at most 4,096 bytes. `is_oon`: whether it is out of network.
    """

    youtube_id: str
    title: str | None = None
    is_oon: bool | None = None
    has_label_association: bool | None = None

    def to_message(self) -> pb.Channel:
        return pb.Channel(
            youtube_id=self.youtube_id,
            title=self.title,
            is_oon=self.is_oon,  # type: ignore[arg-type]  # the stub of an optional bool lacks None
            has_label_association=self.has_label_association,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class Put:
    """The outcomes of the rows that were put: how many were new, differed, or were there as they are."""

    inserted_count: int = 0
    updated_count: int = 0
    unchanged_count: int = 0

    def __add__(self, other: "Put") -> "Put":
        return Put(
            self.inserted_count + other.inserted_count,
            self.updated_count + other.updated_count,
            self.unchanged_count + other.unchanged_count,
        )

    @classmethod
    def from_message(cls, message: pb.PutVideosResponse | pb.PutChannelsResponse) -> "Put":
        return cls(message.inserted_count, message.updated_count, message.unchanged_count)


def cut(
    messages: Iterable[Message], most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES
) -> Iterator[list[Message]]:
    """Batches of rows, in their order, that fit into a request; never an empty one."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        length = message.ByteSize()
        if batch and (len(batch) == most_rows or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def shift_rows(error: InvalidRequest, first: int) -> InvalidRequest:
    """The same error with rows numbered as the caller gave them; `first` is the place of the request's first row."""
    violations = [Violation(_shift(each.field, first), each.description) for each in error.violations]
    message = "; ".join(f"{each.field}: {each.description}" for each in violations) or error.message
    return InvalidRequest.received(
        message, reason=error.reason, metadata=error.metadata, violations=violations
    )


def _shift(field: str, first: int) -> str:
    found = _ROW.fullmatch(field)
    return f"{found[1]}[{int(found[2]) + first}]{found[3]}" if found else field
