"""Protobuf ↔ the types of handlers."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.worker.answer import cut_detail
from services.worker.handlers.handler import Handler, Item, Outcome, Result, VideoMetadata
from tally.scheduler.v1 import work_pb2 as pb

_OUTCOMES = {
    Outcome.SYNCED: pb.OUTCOME_SYNCED,
    Outcome.UNCHANGED: pb.OUTCOME_UNCHANGED,
    Outcome.GONE: pb.OUTCOME_GONE,
    Outcome.RETRY: pb.OUTCOME_RETRY,
    Outcome.FAILED: pb.OUTCOME_FAILED,
}


def write_handlers(handlers: Iterable[Handler]) -> list[pb.Handler]:
    """The handlers that a worker announces."""
    return [pb.Handler(name=handler.name, columns=handler.columns) for handler in handlers]


def read_items(batch: pb.Batch) -> list[Item]:
    """The items of a batch."""
    return [Item(item.id, dict(item.columns)) for item in batch.items]


def write_results(results: Sequence[Result]) -> list[pb.ItemOutcome]:
    """The outcomes of the items of a batch."""
    return [
        pb.ItemOutcome(
            id=result.id,
            outcome=_OUTCOMES[result.outcome],
            detail=cut_detail(result.detail),
            video_metadata=None if result.data is None else _write_video(result.data),
            retry_after_seconds=result.retry_after_seconds,
        )
        for result in results
    ]


def _write_video(found: VideoMetadata) -> pb.VideoMetadata:
    return pb.VideoMetadata(
        title=found.title,
        channel_id=found.channel_id,
        publish_time=None if found.published_at is None else _timestamp(found.published_at),
        duration_seconds=found.duration_seconds,
        view_count=found.view_count,
        like_count=found.like_count,
        comment_count=found.comment_count,
        etag=found.etag,
    )


def _timestamp(time: datetime) -> Timestamp:
    written = Timestamp()
    written.FromDatetime(time)
    return written
