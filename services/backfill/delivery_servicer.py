"""DeliveryService: protobuf ↔ accounts and deliveries."""

from typing import Any

from libs.rpc.types import ServicerContext
from services.backfill.deliveries import record_delivery
from services.backfill.repos import read_accounts, record_failures
from services.backfill.settings import BackfillSettings
from services.backfill.wire import read_asked, read_delivery, read_failures
from tally.backfill.v1 import delivery_pb2 as pb
from tally.backfill.v1.delivery_pb2_grpc import DeliveryServiceServicer


class DeliveryServicer(DeliveryServiceServicer):
    """Serves workers."""

    def __init__(self, pool: Any, settings: BackfillSettings) -> None:
        self._pool = pool
        self._settings = settings

    async def GetAccounts(
        self, request: pb.GetAccountsRequest, context: ServicerContext
    ) -> pb.GetAccountsResponse:
        accounts = await read_accounts(self._pool, read_asked(request))
        return pb.GetAccountsResponse(
            accounts=[
                pb.Account(did=each.did, host=each.host, key_type=each.key_type, key=each.key)
                for each in accounts
            ]
        )

    async def Deliver(self, request: pb.DeliverRequest, context: ServicerContext) -> pb.DeliverResponse:
        stored = await record_delivery(self._pool, read_delivery(request))
        return pb.DeliverResponse(stored_count=stored)

    async def ReportFailures(
        self, request: pb.ReportFailuresRequest, context: ServicerContext
    ) -> pb.ReportFailuresResponse:
        settings = self._settings
        given_up = await record_failures(
            self._pool, read_failures(request), settings.max_attempts, settings.retry_seconds
        )
        return pb.ReportFailuresResponse(given_up_dids=given_up)
