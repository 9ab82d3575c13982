"""`metadata`: titles, dates and counts of YouTube's videos, up to 50 in one call of videos.list.

The official client is an extra: 114 MB, of which little is needed. Its errors have the whole URL in their text, and
with it the key; so no text of theirs leaves this module.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPException
from queue import Empty, SimpleQueue
from typing import Any

from libs.egress.tracing import trace_get
from libs.telemetry.setup import OFF, Telemetry
from services.worker.handlers.handler import (
    CallFailed,
    Handler,
    Item,
    Outcome,
    QuotaExceeded,
    Result,
    TooManyRequests,
    VideoMetadata,
)
from services.worker.settings import YoutubeSettings
from tally.contract.errors import NotReady

NAME = "metadata"
PARTS = ("snippet", "statistics", "contentDetails")

_INSTALL = "the handler `metadata` needs YouTube's client. Install it: pip install 'tally-services[youtube]'"
_LOGGERS = ("googleapiclient.discovery", "googleapiclient.http")
_QUOTA_REASONS = ("quotaExceeded", "dailyLimitExceeded")
_RATE_REASONS = ("rateLimitExceeded", "userRateLimitExceeded")
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)


def open_metadata(settings: YoutubeSettings, telemetry: Telemetry = OFF) -> Handler:
    """The handler. Raises NotReady when YouTube's client is not installed."""
    try:
        import httplib2
        from googleapiclient import discovery, errors
    except ModuleNotFoundError as error:
        raise NotReady(_INSTALL) from error
    for name in _LOGGERS:  # they log URLs, and with them the key
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return Metadata(settings, telemetry, httplib2, discovery, errors)


class Metadata:
    """Asks videos.list; a video that is missing from the answer is gone."""

    name = NAME
    columns: Sequence[str] = ("etag",)

    def __init__(
        self, settings: YoutubeSettings, telemetry: Telemetry, httplib2: Any, discovery: Any, errors: Any
    ) -> None:
        self._tracer = telemetry.tracer
        self._timeout_seconds = settings.timeout_seconds
        self._httplib2 = httplib2
        self._errors = errors
        # httplib2's connections are not safe between threads: a call takes one that is free, or makes another.
        self._free: SimpleQueue[Any] = SimpleQueue()
        key = settings.api_key
        self._videos = discovery.build(
            "youtube",
            "v3",
            http=self._connect(),
            developerKey=None if key is None else key.get_secret_value(),
            static_discovery=True,
            client_options={"api_endpoint": settings.endpoint} if settings.endpoint else None,
        ).videos()

    def handle(self, items: Sequence[Item]) -> Sequence[Result]:
        """One call for all items. Raises CallFailed, QuotaExceeded and TooManyRequests."""
        answer = self._ask([item.id for item in items])
        try:
            found = {str(video["id"]): video for video in answer["items"]}
        except (KeyError, TypeError) as error:
            raise CallFailed("the answer has no list of videos") from error
        return [_result_of(item, found.get(item.id)) for item in items]

    def _ask(self, ids: list[str]) -> Any:
        request = self._videos.list(part=list(PARTS), id=ids)
        with self._connection() as http, trace_get(self._tracer, request.uri) as note_status:
            try:
                answer = request.execute(http=http)
                note_status(200)
                return answer
            except self._errors.HttpError as error:
                note_status(int(error.resp.status))
                raise _translate(int(error.resp.status), error.resp, error.content) from None
            except (OSError, HTTPException, self._httplib2.HttpLib2Error, ValueError) as error:
                raise CallFailed(f"no answer: {type(error).__name__}") from None

    def close(self) -> None:
        """Close the connections."""
        self._videos.close()
        with suppress(Empty):
            while True:
                self._free.get_nowait().close()

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            http = self._free.get_nowait()
        except Empty:
            http = self._connect()
        try:
            yield http
        except BaseException:
            http.close()  # an answer may be half read
            raise
        self._free.put(http)

    def _connect(self) -> Any:
        return self._httplib2.Http(timeout=self._timeout_seconds)


def _translate(status: int, headers: Mapping[str, str], content: bytes) -> Exception:
    reasons = _reasons_of(content)
    told = f"HTTP {status} {', '.join(reasons)}".rstrip()
    if status == 403 and any(reason in _QUOTA_REASONS for reason in reasons):
        return QuotaExceeded(told)
    if status == 429 or any(reason in _RATE_REASONS for reason in reasons):
        wait = headers.get("retry-after", "")
        return TooManyRequests(told, float(wait) if wait.isdecimal() else 0.0)
    return CallFailed(told)


def _reasons_of(content: bytes) -> list[str]:
    try:
        errors = json.loads(content)["error"]["errors"]
        return [str(error["reason"])[:64] for error in errors][:8]
    except (ValueError, KeyError, TypeError):
        return []


def _result_of(item: Item, video: Any) -> Result:
    if video is None:
        return Result(item.id, Outcome.GONE)
    try:
        found = _read_video(video)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Result(
            item.id, Outcome.FAILED, f"the answer about this video is malformed: {type(error).__name__}"
        )
    known = item.columns.get("etag")
    outcome = Outcome.UNCHANGED if known is not None and known == found.etag else Outcome.SYNCED
    return Result(item.id, outcome, data=found)


def _read_video(video: Mapping[str, Any]) -> VideoMetadata:
    snippet, statistics = video["snippet"], video.get("statistics", {})
    duration = video.get("contentDetails", {}).get("duration")
    return VideoMetadata(
        title=str(snippet["title"]),
        channel_id=str(snippet["channelId"]),
        published_at=datetime.fromisoformat(snippet["publishedAt"]).astimezone(UTC),
        duration_seconds=None if duration is None else _seconds_of(duration),
        view_count=_count_of(statistics, "viewCount"),
        like_count=_count_of(statistics, "likeCount"),
        comment_count=_count_of(statistics, "commentCount"),
        etag=str(video["etag"]),
    )


def _count_of(statistics: Mapping[str, Any], name: str) -> int | None:
    """A uint64, which arrives as a string; None where the owner hides it."""
    return int(statistics[name]) if name in statistics else None


def _seconds_of(duration: str) -> int:
    """Seconds in an ISO 8601 duration of days, hours, minutes and seconds. Raises ValueError."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(f"{duration!r} is not a duration")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
