"""A record as a row of the dataset."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import xxhash

from libs.atproto import cid, dag_cbor
from libs.atproto.defects import Defect, Reason
from libs.atproto.repo import Record, Repo
from libs.atproto.syntax import time_of_tid
from libs.dataset.event_time import event_time
from tally.contract.request_id import AHEAD_MS
from tally.contract.rules import EARLIEST_EVENT_US

BUCKETS = 64
LIKE, POST, REPOST = "app.bsky.feed.like", "app.bsky.feed.post", "app.bsky.feed.repost"

_VIDEO = "app.bsky.embed.video"
_WITH_MEDIA = "app.bsky.embed.recordWithMedia"
_SUBJECTS = frozenset({LIKE, REPOST})


class RevOutOfRange(Exception):
    """The rev of a repository is in the future, or before 2000; nothing of it is kept (T002-34)."""


class Row(NamedTuple):
    """One record. The order of the fields is that of the columns."""

    bucket: int
    did: str
    collection: str
    rkey: str
    uri: str
    cid: str
    rev: str
    created_at: str | None
    """as written, if it is a text"""
    time_us: int
    time_source: str
    subject: str | None
    """the at-URI that a like or a repost is about"""
    has_video: bool
    text: str | None
    languages: str | None
    """a JSON list"""
    record: str | None
    """JSON; None for what JSON cannot hold"""
    cbor: bytes | None
    """the record's DAG-CBOR where `record` is None"""


def bucket_of(did: str) -> int:
    """The bucket of an account: XXH3 (64 bits, seed 0) of its DID, modulo 64."""
    return xxhash.xxh3_64_intdigest(did.encode()) % BUCKETS


def check_rev(rev: str, now_us: int) -> int:
    """The time of a rev, in microseconds. Raises RevOutOfRange when no event may have it."""
    rev_us = time_of_tid(rev)
    if rev_us > now_us + AHEAD_MS * 1000:
        raise RevOutOfRange(f"the rev {rev} is {(rev_us - now_us) / 1e6:.0f} s in the future")
    if rev_us < EARLIEST_EVENT_US:
        raise RevOutOfRange(f"the rev {rev} is of a time before 2000")
    return rev_us


def rows_of(repo: Repo, rev_us: int) -> Iterator[Row]:
    """Each record of a repository; `rev_us` is the time of its rev. Raises Defect, and then no row may be kept."""
    bucket = bucket_of(repo.did)
    for record in repo.records():
        yield _row_of(record, repo, bucket, rev_us)


def _row_of(record: Record, repo: Repo, bucket: int, rev_us: int) -> Row:
    value = _decode(record)
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    created_at = fields.get("createdAt")
    time = event_time(created_at, record.key, rev_us)
    text, languages = fields.get("text"), fields.get("langs")
    written = _write(value)
    return Row(
        bucket=bucket,
        did=repo.did,
        collection=record.collection,
        rkey=record.key,
        uri=f"at://{repo.did}/{record.collection}/{record.key}",
        cid=cid.to_text(record.cid),
        rev=repo.rev,
        created_at=created_at if isinstance(created_at, str) else None,
        time_us=time.time_us,
        time_source=time.source,
        subject=_subject_of(fields) if record.collection in _SUBJECTS else None,
        has_video=record.collection == POST and _has_video(fields),
        text=text if isinstance(text, str) else None,
        languages=_write(languages) if isinstance(languages, list) else None,
        record=written,
        cbor=record.block if written is None else None,
    )


def _decode(record: Record) -> Any:
    """The value of a record; None for a block that is not canonical DAG-CBOR, which is kept as it is."""
    try:
        return dag_cbor.decode(record.block, Reason.RECORD_MALFORMED)
    except Defect:
        return None


def _write(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return json.dumps(dag_cbor.to_json(value), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return None


def _subject_of(fields: dict[str, Any]) -> str | None:
    match fields.get("subject"):
        case {"uri": str(uri)}:
            return uri
    return None


def _has_video(fields: dict[str, Any]) -> bool:
    """Whether a post embeds a video, alone or beside a quote."""
    match fields.get("embed"):
        case {"$type": str(kind)} if kind == _VIDEO:
            return True
        case {"$type": str(kind), "media": {"$type": str(media)}} if kind == _WITH_MEDIA:
            return media == _VIDEO
    return False
