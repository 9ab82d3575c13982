"""A worker's calls to the scheduler. A call without an answer is repeated, with the same numbers, until it has one."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TypeVar

import structlog

from libs.rpc.calls import UnaryCall
from libs.rpc.channel import open_channel
from libs.telemetry.setup import Telemetry
from services.worker.settings import WorkerSettings
from tally.contract.errors import DeadlineExceeded, Overloaded, Unavailable
from tally.scheduler.v1 import work_pb2 as pb
from tally.scheduler.v1.work_pb2_grpc import WorkServiceStub

_LOGGER = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.05
_NO_ANSWER = (Unavailable, DeadlineExceeded, Overloaded)
_SERVICE = "tally.scheduler.v1.WorkService"

Request = TypeVar("Request")
Response = TypeVar("Response")


class Scheduler:
    """The rpcs of WorkService, over all schedulers that are set: each repetition goes to the next one.

    Further calls begin at the one that has answered: a frozen scheduler costs one timeout, and not one for each call.
    """

    def __init__(self, settings: WorkerSettings, telemetry: Telemetry) -> None:
        self._settings = settings
        self._channels = [open_channel(address, settings.channel) for address in settings.scheduler]
        stubs = [WorkServiceStub(channel) for channel in self._channels]

        def calls(method: str) -> list[UnaryCall[Request, Response]]:
            return [
                UnaryCall(getattr(stub, method), f"/{_SERVICE}/{method}", telemetry=telemetry)
                for stub in stubs
            ]

        self._lease: list[UnaryCall[pb.LeaseSlotRequest, pb.LeaseSlotResponse]] = calls("LeaseSlot")
        self._extend: list[UnaryCall[pb.ExtendLeaseRequest, pb.ExtendLeaseResponse]] = calls("ExtendLease")
        self._report: list[UnaryCall[pb.ReportItemsRequest, pb.ReportItemsResponse]] = calls("ReportItems")
        self._complete: list[UnaryCall[pb.CompleteSlotRequest, pb.CompleteSlotResponse]] = calls(
            "CompleteSlot"
        )
        self.first = random.randrange(len(stubs))  # noqa: S311 - workers spread over schedulers
        """where calls begin"""

    async def lease_slot(self, request: pb.LeaseSlotRequest) -> pb.LeaseSlotResponse:
        """Waits for a slot, for as long as the request says."""
        return await self._call(self._lease, request, request.wait_seconds)

    async def extend_lease(self, request: pb.ExtendLeaseRequest) -> pb.ExtendLeaseResponse:
        """Raises LeaseLost."""
        return await self._call(self._extend, request)

    async def report_items(self, request: pb.ReportItemsRequest) -> pb.ReportItemsResponse:
        """Raises LeaseLost."""
        return await self._call(self._report, request)

    async def complete_slot(self, request: pb.CompleteSlotRequest) -> pb.CompleteSlotResponse:
        """Raises LeaseLost."""
        return await self._call(self._complete, request)

    async def close(self) -> None:
        """Close the connections."""
        async with AsyncExitStack() as stack:
            for channel in self._channels:
                stack.push_async_callback(channel.close)

    async def _call(
        self, calls: list[UnaryCall[Request, Response]], request: Request, wait_seconds: float = 0.0
    ) -> Response:
        pause, first = _FIRST_PAUSE_SECONDS, self.first
        for attempt in range(1 << 31):
            place = (first + attempt) % len(calls)
            try:
                answer = await calls[place](
                    request, timeout_s=wait_seconds + self._settings.call_timeout_seconds
                )
            except _NO_ANSWER as error:
                if attempt % len(calls) == len(calls) - 1:  # all of them were tried
                    _LOGGER.warning("no answer from the scheduler; will retry", error=error.message)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                    pause = min(2 * pause, self._settings.pause_seconds)
            else:
                if attempt:
                    self.first = place
                return answer
        raise AssertionError("a worker does not live that long")
