"""Protobuf ↔ the backfill's types; validates each request."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.atproto.syntax import is_nsid, is_tid
from services.backfill.deliveries import Delivery, PartRow, RepoRow
from services.backfill.documents import is_resolvable
from services.backfill.jobs import Wish
from services.backfill.report import Report
from services.backfill.repos import Failure
from tally.backfill.v1 import backfill_pb2, delivery_pb2
from tally.contract.errors import MAX_VIOLATIONS, InvalidRequest, Violation

MOST_DIDS = 5_000
MOST_ACCOUNTS = 1_000
_MOST_REPOS = 10_000
_MOST_PARTS = 10_000
_MOST_BATCH = 1_000
_BATCH = 50
_MOST_DETAIL = 500
_JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_REASON = re.compile(r"[a-zA-Z0-9_]{1,64}", re.ASCII)
_PART = re.compile(r"parts/([a-zA-Z0-9.-]+)/[0-9a-f]{64}\.parquet", re.ASCII)

_DID = "must be a did:plc or a did:web without a path, of at most 128 bytes"


async def read_wish(
    requests: AsyncIterator[backfill_pb2.CreateJobRequest],
) -> tuple[Wish, AsyncIterator[Sequence[str]]]:
    """The job that a stream asks for, and its DIDs, checked as they come. Raises InvalidRequest."""
    first = await anext(aiter(requests), backfill_pb2.CreateJobRequest())
    violations = []
    if not _JOB_ID.fullmatch(first.job_id):
        violations.append(Violation("job_id", "must be 1 to 64 of the characters a-z, A-Z, 0-9, _ and -"))
    if not 0 <= first.batch_size <= _MOST_BATCH:
        violations.append(Violation("batch_size", f"must be from 1 to {_MOST_BATCH}, or 0 for {_BATCH}"))
    if violations:
        raise InvalidRequest(violations)

    async def batches() -> AsyncIterator[Sequence[str]]:
        yield _read_dids(first.dids, MOST_DIDS)
        async for request in requests:
            if request.job_id or request.batch_size:
                raise InvalidRequest([Violation("job_id", "may be in the first message alone")])
            yield _read_dids(request.dids, MOST_DIDS)

    return Wish(first.job_id, first.batch_size or _BATCH), batches()


def _read_dids(dids: Sequence[str], most: int) -> list[str]:
    if len(dids) > most:
        raise InvalidRequest([Violation("dids", f"must be at most {most} in one message")])
    wrong = [Violation(f"dids[{place}]", _DID) for place, did in enumerate(dids) if not is_resolvable(did)]
    if wrong:
        raise InvalidRequest(wrong[:MAX_VIOLATIONS], total=len(wrong))
    return list(dids)


def read_asked(request: delivery_pb2.GetAccountsRequest) -> list[str]:
    """The accounts that a worker asks for. Raises InvalidRequest."""
    return _read_dids(request.dids, MOST_ACCOUNTS)


def read_delivery(request: delivery_pb2.DeliverRequest) -> Delivery:
    """A delivery. Raises InvalidRequest."""
    violations = []
    if len(request.parts) > _MOST_PARTS:
        violations.append(Violation("parts", f"must be at most {_MOST_PARTS}"))
    if not 1 <= len(request.repos) <= _MOST_REPOS:
        violations.append(Violation("repos", f"must be from 1 to {_MOST_REPOS}"))
    for place, part in enumerate(request.parts):
        violations += [Violation(f"parts[{place}].{field}", each) for field, each in _check_part(part)]
    for place, repo in enumerate(request.repos):
        violations += [Violation(f"repos[{place}].{field}", each) for field, each in _check_repo(repo)]
    if violations:
        raise InvalidRequest(violations[:MAX_VIOLATIONS], total=len(violations))
    return Delivery(
        [PartRow(part.name, part.collection, part.row_count, part.byte_count) for part in request.parts],
        [RepoRow(repo.did, repo.rev, repo.record_count) for repo in request.repos],
    )


def _check_part(part: delivery_pb2.Part) -> Iterator[tuple[str, str]]:
    named = _PART.fullmatch(part.name)
    if named is None or named[1] != part.collection or not is_nsid(part.collection):
        yield "name", "must be parts/COLLECTION/SHA256.parquet"
    if part.row_count < 1 or part.byte_count < 1:
        yield "row_count", "must be 1 or more, as byte_count"


def _check_repo(repo: delivery_pb2.StoredRepo) -> Iterator[tuple[str, str]]:
    if not is_resolvable(repo.did):
        yield "did", _DID
    if not is_tid(repo.rev):
        yield "rev", "must be a TID"
    if repo.record_count < 0:
        yield "record_count", "must not be negative"


def read_failures(request: delivery_pb2.ReportFailuresRequest) -> list[Failure]:
    """What a worker reports. Raises InvalidRequest."""
    _read_dids([failure.did for failure in request.failures], MOST_ACCOUNTS)
    wrong = [
        Violation(f"failures[{place}].reason", "must be 1 to 64 of the characters a-z, A-Z, 0-9 and _")
        for place, failure in enumerate(request.failures)
        if not _REASON.fullmatch(failure.reason)
    ]
    if wrong:
        raise InvalidRequest(wrong[:MAX_VIOLATIONS], total=len(wrong))
    return [
        Failure(
            failure.did, failure.reason, failure.detail.replace("\0", "")[:_MOST_DETAIL], failure.transient
        )
        for failure in request.failures
    ]


def job_of(row: Any) -> backfill_pb2.Job:
    """A row of `read_job`."""
    return backfill_pb2.Job(
        job_id=row["job_id"],
        done=row["repos"] == row["stored"] + row["failed"],
        create_time=_timestamp(row["created_at"]),
        batch_size=row["batch_size"],
        repo_count=row["repos"],
        waiting_count=row["waiting"],
        ready_count=row["ready"],
        stored_count=row["stored"],
        failed_count=row["failed"],
        record_count=row["records"],
    )


def failure_of(row: Any) -> backfill_pb2.FailedRepo:
    """A row of `list_failures`."""
    return backfill_pb2.FailedRepo(
        did=row["did"], reason=row["reason"], detail=row["detail"], attempts=row["attempts"]
    )


def report_of(report: Report) -> backfill_pb2.CountDatasetResponse:
    """The outcome of a bucket."""
    return backfill_pb2.CountDatasetResponse(
        bucket=report.bucket,
        counted_count=report.counted,
        pending_count=report.pending,
        unknown_count=report.unknown,
        other_count=report.other,
        total_count=report.total,
    )


def _timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
