"""The calls of the backfill to schedulers and partitioners, of which one does not answer."""

from typing import Any

import grpc
import pytest

from services.backfill.scheduling import Scheduling
from services.backfill.settings import BackfillSettings
from services.backfill.shipping import Receipt, Shipping
from tally.common.v1 import common_pb2
from tally.contract.errors import TallyError
from tally.ingest.v1.ingest_pb2 import ProcessEventsResponse
from tally.ingest.v1.ingest_pb2 import Receipt as ReceiptMessage
from tests.integration.services.backfill.test_dataset import DIDS, make_ready
from tests.support.peer import ANY, never_answer, open_peer, refuse


async def test_a_shipment_without_an_answer_is_sent_to_the_next_partitioner() -> None:
    async with open_peer() as frozen, open_peer() as other:
        frozen.answers[ANY] = never_answer
        receipt = ReceiptMessage(durability=common_pb2.DURABILITY_JOURNALED)
        other.answers[ANY] = ProcessEventsResponse(receipt=receipt)
        settings = BackfillSettings(partitioner=(frozen.address, other.address), send_seconds=0.2)
        shipping = Shipping(settings)
        try:
            receipts = [await shipping.ship(b"") for _ in range(3)]
        finally:
            await shipping.close()
    assert receipts == [Receipt.UNANSWERED, Receipt.JOURNALED, Receipt.JOURNALED]


async def test_accounts_are_put_by_the_next_scheduler_when_one_fails(pool: Any) -> None:
    await make_ready(pool)
    async with open_peer() as broken, open_peer() as other:
        broken.answers[ANY] = refuse(grpc.StatusCode.UNAVAILABLE)
        scheduling = Scheduling(pool, BackfillSettings(scheduler=(broken.address, other.address)))
        try:
            with pytest.raises(TallyError):
                await scheduling.turn()
            await scheduling.turn()
        finally:
            await scheduling.close()
    assert {each.rpc for each in other.received} >= {"PutRepos", "RunJob"}
    assert await pool.fetchval("select count(*) from backfill.repo where put_at is not null") == len(DIDS)
