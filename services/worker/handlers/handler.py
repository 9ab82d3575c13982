"""The interface of handlers: their input and their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Item:
    """A member to work on."""

    id: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """those that the handler asked for, as text; a column that is null is missing"""


class Outcome(StrEnum):
    """The outcome of an item."""

    SYNCED = "synced"
    UNCHANGED = "unchanged"
    GONE = "gone"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What an api reports of a video. None keeps the value that is stored."""

    title: str | None = None
    channel_id: str | None = None
    published_at: datetime | None = None
    duration_seconds: int | None = None
    view_count: int | None = None
    like_count: int | None = None
    comment_count: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one item, and what was found."""

    id: str
    outcome: Outcome
    detail: str = ""
    data: VideoMetadata | None = None
    retry_after_seconds: float = 0.0


class CallFailed(Exception):
    """The call failed as a whole: no connection, 5xx, timeout, 401. It counts as no item's attempt."""


class QuotaExceeded(Exception):
    """The api reports that a quota of the day is used up."""


class TooManyRequests(Exception):
    """The api asks to wait."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        """0: it did not say how long"""


class Handler(Protocol):
    """Calls an api for a batch of items. It runs in a thread, and must not depend on the event loop."""

    @property
    def name(self) -> str:
        """The name by which jobs name it."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the population that it needs of each item."""

    def handle(self, items: Sequence[Item]) -> Sequence[Result]:
        """The result of each item, in any order. Raises CallFailed, QuotaExceeded or TooManyRequests."""

    def close(self) -> None:
        """Release what it holds; nothing is handled any more."""
