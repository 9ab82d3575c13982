"""Neither what was counted before nor what is still to be counted is found by the time of its arrival."""

import pytest

from libs.domain.entry import Outcome
from tally.contract.request_id import make_request_id, time_ms_of
from tests.support.entries import new_id
from tests.support.eventually import eventually
from tests.support.proof import assert_exact, open_proof
from tests.support.shards import open_shard, send
from tests.support.stack import OpenService

pytestmark = pytest.mark.exact

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}
DAY_MS = 86_400_000


async def test_a_retry_is_a_duplicate_in_the_partition_of_yesterday_too(dsn: str) -> None:
    midnight_ms = time_ms_of(new_id()) // DAY_MS * DAY_MS
    yesterday, today = make_request_id(midnight_ms - 1), make_request_id(midnight_ms)
    async with open_proof(dsn) as connection:
        async with open_shard(dsn, name="a") as a:
            for request_id in (yesterday, today):
                assert await send(a, COUNTS, request_id) == {Outcome.JOURNALED}
        assert await connection.fetchval("select count(distinct tableoid) from counting.journal") == 2
        # To another shard, after everything that the first one knew is gone.
        async with open_shard(dsn, name="b") as b:
            for request_id in (today, yesterday):
                assert await send(b, COUNTS, request_id) == {Outcome.DUPLICATE}
        await assert_exact(dsn, {key: 2 * n for key, n in COUNTS.items()})


async def test_an_entry_received_before_what_is_applied_is_read_and_recovered(
    open_service: OpenService, dsn: str
) -> None:
    """Its number is what tells that it is not applied: clocks step back, and shards wait between clock and commit."""
    async with open_proof(dsn) as holding, open_proof(dsn) as connection:
        async with open_shard(dsn, name="dies", is_killed=True) as shard:
            await send(shard, {("video", "view"): 1})

            async def is_applied() -> bool:
                return bool(await connection.fetchval("select applied_seq = 1 from counting.checkpoint"))

            await eventually(is_applied)
            await holding.execute("begin; select from counting.checkpoint for update")
            await send(shard, {("video", "view"): 2})
        await connection.execute(
            "update counting.journal set received_at = received_at - interval '10 minutes' where seq = 2"
        )
        async with open_service("query") as stack:
            assert (await stack.client.get_count("video")).count == 1
            assert (await stack.client.get_count("video", strong=True)).count == 3
        await holding.execute("commit")
        async with open_shard(dsn, name="next"):
            await assert_exact(dsn, {("video", "view"): 3})
