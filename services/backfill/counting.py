"""Counting: bucket by bucket, a plan is made, sent and closed. Whatever ends it anywhere, the next call goes on."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from libs.dataset.rows import BUCKETS
from libs.stores.objects import Objects
from services.backfill.candidates import Candidates, open_candidates
from services.backfill.ledger import Bucket, Ledger, OpenPlan, Outstanding
from services.backfill.plan import HASH_BYTES, Hashes, make_plan, read_hashes, request_id, request_of, unite
from services.backfill.report import Report
from services.backfill.shipping import Receipt, Ship

_LOGGER = structlog.get_logger(__name__)

_DONE = (Receipt.JOURNALED, Receipt.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Identity:
    """What requests are told apart by, besides their plans."""

    cluster_id: UUID
    partition_count: int


class Counting:
    """Counts the dataset. Any number may do so at the same time."""

    def __init__(
        self, pool: Any, ledger: Ledger, objects: Objects, ship: Ship, identity: Identity, at_once: int
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._objects = objects
        self._ship = ship
        self._identity = identity
        self._slots = asyncio.Semaphore(at_once)

    async def run(self) -> AsyncIterator[Report]:
        """Count every bucket."""
        async with open_candidates(self._pool, self._objects) as candidates:
            for bucket in range(BUCKETS):
                yield await self.count(bucket, candidates)

    async def count(self, number: int, candidates: Candidates) -> Report:
        """Close the open plan of a bucket, if there is one, and count what the dataset has besides."""
        report = Report(number)
        while True:
            bucket = await self._ledger.read(number)
            if bucket.plan is None:
                if not await self._plan(bucket, candidates, report):
                    report.total = bucket.counted_count
                    return report
                continue
            if not await self._send(bucket, bucket.plan, report):
                report.total = bucket.counted_count
                return report
            await self._close(bucket, bucket.plan)

    async def _plan(self, bucket: Bucket, candidates: Candidates, report: Report) -> bool:
        """Make a plan; False if there is nothing to count."""
        counted = await self._read_counted(bucket)
        found = await candidates.of(bucket.number)
        report.other = found.other_count
        plan = await asyncio.to_thread(make_plan, found.events, counted, self._identity.partition_count)
        if plan is None:
            return False
        name = await self._write(bucket, "plan", plan.content)
        await self._ledger.open(bucket, name, plan)
        return True

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
