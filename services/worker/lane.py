"""One lane of a worker: a slot at a time, batch by batch, until the worker stops."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from libs.domain.clock import Clock
from services.worker.answer import check_results, cut_detail
from services.worker.handlers.handler import CallFailed, Handler, QuotaExceeded, TooManyRequests
from services.worker.measuring import Measuring
from services.worker.scheduler import Scheduler
from services.worker.threads import Threads, TimeLimit
from services.worker.wire import read_items, write_handlers, write_results
from tally.contract.errors import LeaseLost
from tally.scheduler.v1 import work_pb2 as pb

_LOGGER = structlog.get_logger(__name__)

# A lease is extended when so much of it has passed.
_EXTEND_AFTER = 0.5
_LAST_ANSWER_SECONDS = 2.0
"""How long a stopping worker asks whether it was leased a slot; without an answer the lease expires."""


@dataclass(slots=True)
class _Hold:
    """A lease that is held, and until when, by the worker's own monotonic clock."""

    slot: str
    token: int
    ends_at: float
    send_before: float

    def permit(self, asked_at: float, permit: pb.Permit, lease_seconds: float) -> None:
        """Take over what an answer grants; it counts from when it was first asked for."""
        granted_at = asked_at + permit.wait_seconds
        self.ends_at = granted_at + lease_seconds
        self.send_before = granted_at + permit.send_within_seconds


class Lane:
    """Leases, works and reports, one slot after the other."""

    def __init__(
        self,
        worker: str,
        scheduler: Scheduler,
        handlers: Mapping[str, Handler],
        threads: Threads,
        clock: Clock,
        wait_seconds: float,
        next_number: Callable[[], int],
        measuring: Measuring,
    ) -> None:
        self._worker = worker
        self._scheduler = scheduler
        self._handlers = handlers
        self._threads = threads
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._next_number = next_number
        self._measuring = measuring
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Finish the batch in progress, give the rest of the slot back, and lease no other."""
        self._stopped.set()

    async def run(self) -> None:
        """Work until `stop`."""
        while not self._stopped.is_set():
            request = pb.LeaseSlotRequest(
                worker=self._worker,
                request_number=self._next_number(),
                handlers=write_handlers(self._handlers.values()),
                wait_seconds=self._wait_seconds,
            )
            asked_at = self._clock.monotonic()
            with self._measuring.slot() as span:
                response = await self._lease(request)
                if response.HasField("lease"):
                    lease = response.lease
                    with self._measuring.work(span, lease.slot, lease.job, lease.handler):
                        await self._work(lease, asked_at)

    async def _lease(self, request: pb.LeaseSlotRequest) -> pb.LeaseSlotResponse:
        """A slot, or none. A stop ends the wait; the same request then shows whether a slot was leased."""
        leasing = asyncio.create_task(self._scheduler.lease_slot(request))
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({leasing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if leasing.done():
                return leasing.result()
        finally:
            leasing.cancel()
            stopping.cancel()
        request.wait_seconds = 0.0
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_ANSWER_SECONDS):
                return await self._scheduler.lease_slot(request)
        return pb.LeaseSlotResponse()

    async def _work(self, lease: pb.Lease, asked_at: float) -> None:
        hold = _Hold(lease.slot, lease.token, 0.0, 0.0)
        hold.permit(asked_at, lease.permit, lease.lease_seconds)
        try:
            for batch in lease.batches:
                if not await self._work_batch(lease, batch, hold):
                    return
        except LeaseLost:
            _LOGGER.warning("lease lost; the slot goes to another worker", slot=lease.slot, job=lease.job)

    async def _work_batch(self, lease: pb.Lease, batch: pb.Batch, hold: _Hold) -> bool:
        """Call, and report; returns whether the lease has a next batch. Raises LeaseLost."""
        reason: pb.GiveBackReason = pb.GIVE_BACK_REASON_CALL_FAILED
        wait = 0.0
        try:
            with self._measuring.batch(lease.handler, len(batch.items)):
                results = await self._call(lease, batch, hold)
        except _NotSent as error:
            reason, problem = pb.GIVE_BACK_REASON_NOT_SENT, str(error)
        except QuotaExceeded as error:
            reason, problem = pb.GIVE_BACK_REASON_QUOTA_EXCEEDED, str(error)
        except TooManyRequests as error:
            reason, problem, wait = (
                pb.GIVE_BACK_REASON_TOO_MANY_REQUESTS,
                str(error),
                error.retry_after_seconds,
            )
        except (CallFailed, TimeLimit) as error:
            problem = str(error)
        except LeaseLost:
            raise
        except Exception as error:
            _LOGGER.exception(
                "handler failed; the slot is given back", handler=lease.handler, slot=lease.slot
            )
            problem = f"the handler raised {type(error).__name__}"
        else:
            return await self._report(lease, batch, results, hold)
        _LOGGER.info("slot given back", slot=lease.slot, job=lease.job, reason=pb.GiveBackReason.Name(reason))
        await self._scheduler.complete_slot(
            pb.CompleteSlotRequest(
                slot=lease.slot,
                token=lease.token,
                reason=reason,
                retry_after_seconds=wait,
                detail=cut_detail(problem),
            )
        )
        return False

    async def _call(self, lease: pb.Lease, batch: pb.Batch, hold: _Hold) -> list[pb.ItemOutcome]:
        """The outcomes of a batch, while the lease is kept. Raises what a handler may raise, TimeLimit, _NotSent."""
        handler, items = self._handlers[lease.handler], read_items(batch)
        if self._stopped.is_set():
            raise _NotSent("the worker is stopping")
        # The last look before the call: a worker that was frozen until now must not send on an old permit.
        if self._clock.monotonic() > hold.send_before:
            raise _NotSent("the permit was too old when its turn came")
        keeping = asyncio.create_task(self._keep(hold))
        calling = asyncio.create_task(self._threads.run(lambda: handler.handle(items), lease.batch_seconds))
        try:
            await asyncio.wait({keeping, calling}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                await keeping  # raises LeaseLost
            return write_results(check_results(items, await calling))
        finally:
            for task in (keeping, calling):
                task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await asyncio.gather(keeping, calling, return_exceptions=True)

    async def _keep(self, hold: _Hold) -> None:
        """Extend the lease for as long as the batch is at work. Raises LeaseLost."""
        while True:
            left = hold.ends_at - self._clock.monotonic()
            await asyncio.sleep(max(0.1, _EXTEND_AFTER * left))
            asked_at = self._clock.monotonic()
            response = await self._scheduler.extend_lease(
                pb.ExtendLeaseRequest(slot=hold.slot, token=hold.token)
            )
            hold.ends_at = asked_at + response.lease_seconds

    async def _report(
        self, lease: pb.Lease, batch: pb.Batch, results: list[pb.ItemOutcome], hold: _Hold
    ) -> bool:
        asked_at = self._clock.monotonic()
        response = await self._scheduler.report_items(
            pb.ReportItemsRequest(
                slot=lease.slot,
                token=lease.token,
                begin_key=batch.begin_key,
                items=results,
                is_last=self._stopped.is_set(),
            )
        )
        if response.state != pb.SLOT_STATE_LEASED:
            return False
        hold.permit(asked_at, response.permit, response.lease_seconds)
        return True


class _NotSent(Exception):
    """No call was made for a batch that was paid."""
