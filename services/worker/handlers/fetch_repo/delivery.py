"""A worker's calls to the backfill service."""

from collections.abc import Sequence
from typing import Any, TypeVar

from libs.rpc.calls import UnaryCall
from libs.rpc.channel import open_channel
from libs.telemetry.setup import Telemetry
from services.worker.settings import WorkerSettings
from tally.backfill.v1 import delivery_pb2 as pb
from tally.backfill.v1.delivery_pb2_grpc import DeliveryServiceStub
from tally.contract.errors import DeadlineExceeded, Unavailable

_SERVICE = "tally.backfill.v1.DeliveryService"
_MOST_DIDS = 1_000

Request = TypeVar("Request")
Response = TypeVar("Response")


class Delivery:
    """The rpcs of DeliveryService; after a call without an answer the next one goes to the next address."""

    def __init__(self, settings: WorkerSettings, telemetry: Telemetry) -> None:
        self._seconds = settings.call_timeout_seconds
        self._channels = [open_channel(address, settings.backfill_channel) for address in settings.backfill]
        stubs = [DeliveryServiceStub(channel) for channel in self._channels]

        def calls(method: str) -> list[UnaryCall[Any, Any]]:
            name = f"/{_SERVICE}/{method}"
            return [UnaryCall(getattr(stub, method), name, telemetry=telemetry) for stub in stubs]

        self._get_accounts: list[UnaryCall[pb.GetAccountsRequest, pb.GetAccountsResponse]] = calls(
            "GetAccounts"
        )
        self._deliver: list[UnaryCall[pb.DeliverRequest, pb.DeliverResponse]] = calls("Deliver")
        self._report: list[UnaryCall[pb.ReportFailuresRequest, pb.ReportFailuresResponse]] = calls(
            "ReportFailures"
        )
        self._turn = 0

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    async def get_accounts(self, dids: Sequence[str]) -> list[pb.Account]:
        """Those of the accounts that are to be fetched. Raises TallyError."""
        found: list[pb.Account] = []
        for start in range(0, len(dids), _MOST_DIDS):
            request = pb.GetAccountsRequest(dids=dids[start : start + _MOST_DIDS])
            found += (await self._call(self._get_accounts, request)).accounts
        return found

    async def deliver(self, request: pb.DeliverRequest) -> None:
        """Hand over repositories whose parts are in the object store. Raises TallyError."""
        await self._call(self._deliver, request)

    async def report_failures(self, failures: Sequence[pb.Failure]) -> set[str]:
        """Which of the accounts are given up. Raises TallyError."""
        given_up: set[str] = set()
        for start in range(0, len(failures), _MOST_DIDS):
            request = pb.ReportFailuresRequest(failures=failures[start : start + _MOST_DIDS])
            given_up.update((await self._call(self._report, request)).given_up_dids)
        return given_up

    async def _call(self, calls: list[UnaryCall[Request, Response]], request: Request) -> Response:
        try:
            return await calls[self._turn % len(calls)](request, timeout_s=self._seconds)
        except (Unavailable, DeadlineExceeded):
            self._turn += 1
            raise
