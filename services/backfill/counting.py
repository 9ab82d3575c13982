"""Counting: bucket by bucket, a plan is made, sent and closed. After any interruption the next call continues."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog

from libs.dataset.rows import BUCKETS
from libs.stores.objects import Objects
from services.backfill.candidates import Found
from services.backfill.ledger import Bucket, Ledger, OpenPlan, Outstanding
from services.backfill.plan import HASH_BYTES, Hashes, make_plan, read_hashes, request_id, request_of, unite
from services.backfill.report import Report
from services.backfill.shipping import Receipt, Ship

_LOGGER = structlog.get_logger(__name__)

_BUCKETS_AT_ONCE = 4
_DONE = (Receipt.JOURNALED, Receipt.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Identity:
    """What distinguishes requests, besides their plans."""

    cluster_id: UUID
    partition_count: int


class Source(Protocol):
    """Where the events of a bucket come from."""

    async def of(self, bucket: int) -> Found:
        """The events of a bucket, as the dataset has them now."""
        ...


class Counting:
    """Counts the dataset. Any number may do so at the same time."""

    def __init__(
        self,
        open_source: Callable[[], AbstractAsyncContextManager[Source]],
        ledger: Ledger,
        objects: Objects,
        ship: Ship,
        identity: Identity,
        at_once: int,
    ) -> None:
        """`open_source`: the events of the dataset as it is then; `at_once`: requests under way."""
        self._open_source = open_source
        self._ledger = ledger
        self._objects = objects
        self._ship = ship
        self._identity = identity
        self._slots = asyncio.Semaphore(at_once)

    async def run(self) -> AsyncIterator[Report]:
        """Count every bucket."""
        async with self._open_source() as source:
            for start in range(0, BUCKETS, _BUCKETS_AT_ONCE):
                some = range(start, min(start + _BUCKETS_AT_ONCE, BUCKETS))
                for report in await asyncio.gather(*(self.count(bucket, source) for bucket in some)):
                    yield report

    async def count(self, number: int, source: Source) -> Report:
        """Close the open plan of a bucket, if there is one, and count what the dataset has besides."""
        report = Report(number)
        is_planned = False
        while True:
            bucket = await self._ledger.read(number)
            report.total = bucket.counted_count
            if bucket.plan is None:
                # A plan that was opened by this call has had all the candidates.
                opened = None if is_planned else await self._plan(bucket, source, report)
                if opened is None:
                    return report
                is_planned = opened
            elif await self._send(bucket, bucket.plan, report):
                await self._close(bucket, bucket.plan)
            else:
                return report

    async def _plan(self, bucket: Bucket, source: Source, report: Report) -> bool | None:
        """Open a plan; False if the bucket has changed since it was read, None if there is nothing to count."""
        counted = await self._read_counted(bucket)
        found = await source.of(bucket.number)
        report.other = found.other_count
        plan = await asyncio.to_thread(make_plan, found.events, counted, self._identity.partition_count)
        if plan is None:
            return None
        name = await self._write(bucket, "plan", plan.content)
        return await self._ledger.open(bucket, name, plan)

    async def _send(self, bucket: Bucket, plan: OpenPlan, report: Report) -> bool:
        """Send what has no receipt; whether everything has one now."""
        outstanding = await self._ledger.list_outstanding(plan)
        receipts = await asyncio.gather(*(self._send_one(bucket, plan, each) for each in outstanding))
        report.pending = report.unknown = 0
        for shipment, receipt in zip(outstanding, receipts, strict=True):
            if receipt in _DONE:
                report.counted += shipment.event_count
            elif receipt is Receipt.TOO_OLD:
                report.unknown += shipment.event_count
            else:
                report.pending += shipment.event_count
        if report.unknown:
            _LOGGER.error(
                "requests without a receipt are too old to be sent again; their bucket stays open",
                bucket=bucket.number,
                plan=plan.plan_id,
                events=report.unknown,
            )
        return not (report.pending or report.unknown)

    async def _send_one(self, bucket: Bucket, plan: OpenPlan, shipment: Outstanding) -> Receipt:
        async with self._slots:
            body = await self._objects.get_range(plan.object, shipment.start, shipment.length)
            attempt, first_sent_ms = await self._ledger.begin(plan, shipment.number)
            identity = (
                str(self._identity.cluster_id),
                bucket.dataset_id,
                bucket.number,
                plan.plan_id,
                plan.object,
            )
            request = request_of(request_id(identity, shipment.number, attempt, first_sent_ms), body)
            receipt = await self._ship(request)
            if receipt in _DONE:
                await self._ledger.finish(plan, shipment.number, receipt)
            return receipt

    async def _close(self, bucket: Bucket, plan: OpenPlan) -> None:
        """Take the plan into the counted set, unless another has; the bucket is then read again."""
        planned = read_hashes(await self._objects.get_range(plan.object, 0, plan.hash_count * HASH_BYTES))
        content = unite(await self._read_counted(bucket), planned)
        name = await self._write(bucket, "counted", content)
        await self._ledger.close(bucket, plan, name, len(content) // HASH_BYTES)

    async def _read_counted(self, bucket: Bucket) -> Hashes:
        return read_hashes(b"" if bucket.counted is None else await self._objects.get(bucket.counted))

    async def _write(self, bucket: Bucket, kind: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        name = f"ledger/{bucket.number:02}/{kind}-{digest}"
        await self._objects.put(name, content)
        return name
