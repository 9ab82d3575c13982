"""One bad value, or one entry that nobody should have sent, stops neither a shard nor a log."""

import grpc
import numpy as np
import pytest

from libs.domain.entry import Outcome
from libs.rpc.columns import encode
from tally.client import Event
from tests.support.database import PARTITION_COUNT
from tests.support.entries import append, as_entry, cut_request, events_of
from tests.support.eventually import eventually
from tests.support.proof import assert_exact, open_proof, rolled_up, states
from tests.support.shards import NEVER, open_shard, quick, send
from tests.support.stack import OpenService, Stack

pytestmark = pytest.mark.exact

TINY = [5e-324, 6.9e-310, -6.9e-310, 1e-160, -1e-200, 0.0, 1e-300]


async def test_values_next_to_nothing_are_counted_and_stop_no_flush(stack: Stack, dsn: str) -> None:
    """Postgres takes an underflow for an error."""
    for value in TINY:  # one after the other, so that flushes merge them in all ways
        await stack.client.process(Event("video", "watched", value=value))

        async def is_flushed() -> bool:
            return not [log for log in await stack.client.list_logs() if log.applied_seq < log.last_seq]

        await eventually(is_flushed)
    for strong in (True, False):
        found = await stack.client.get_stats("video", "watched", "stddev", strong=strong)
        assert found.count == len(TINY)
        assert found.value == pytest.approx(0.0, abs=1e-150)
    assert (await stack.client.get_stats("video", "watched", "min", strong=True)).value == min(TINY)
    await assert_exact(dsn, {("video", "watched"): len(TINY)})


async def test_an_entry_that_the_rollups_refuse_becomes_a_dead_letter_and_the_others_are_counted(
    dsn: str,
) -> None:
    good = {(f"video {n}", "view"): n + 1 for n in range(9)}
    async with open_proof(dsn) as connection:
        await connection.execute(
            "alter table counting.rollup_block add constraint odd check (position('bad'::bytea in body) = 0)"
        )
        async with open_shard(dsn) as shard:
            assert await send(shard, good) == {Outcome.JOURNALED}
            assert await send(shard, {("bad", "view"): 1}) == {Outcome.JOURNALED}
            assert await send(shard, good) == {Outcome.JOURNALED}

            async def is_set_aside() -> bool:
                return bool(await connection.fetchval("select count(*) from counting.dead_letter") == 1)

            await eventually(is_set_aside)
            await send(shard, good)

            async def is_counted() -> bool:
                return bool(await rolled_up(connection) == {key: 3 * n for key, n in good.items()})

            await eventually(is_counted)
        assert await connection.fetchval("select reason from counting.dead_letter")
        assert set(await states(connection)) == {"settled"}


async def test_a_stop_does_not_wait_for_a_flush_that_is_refused(dsn: str) -> None:
    counts = {("video", "view"): 3}
    async with open_proof(dsn) as connection:
        async with open_shard(dsn, quick(NEVER)) as shard:
            await send(shard, counts)
            await connection.execute("revoke all on counting.rollup_block from public")
            await connection.execute("alter table counting.rollup_block rename to away")
        await connection.execute("alter table counting.away rename to rollup_block")
        async with open_shard(dsn, name="next"):
            await assert_exact(dsn, counts)


@pytest.mark.parametrize("name", ["nul", "partition", "minute", "count"])
async def test_a_shard_refuses_what_it_could_not_apply(
    open_service: OpenService, dsn: str, name: str
) -> None:
    [sent] = cut_request({("video", "view"): 2})
    events = events_of({("video", "view"): 2})
    match name:
        case "nul":
            events.video_ids[0] = "vid\0eo"
            sent.payload = encode(events).SerializeToString()
        case "partition":
            sent.partition = (sent.partition + 1) % PARTITION_COUNT
        case "minute":
            sent.payload = encode(events).SerializeToString()
            payload = encode(events)
            payload.event_time_us = np.full(2, 2**62, "<i8").tobytes()
            sent.payload = payload.SerializeToString()
        case "count":
            sent.event_count = 3
    async with open_service("all") as stack:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await append(stack.address, [sent])
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await assert_exact(dsn, {})


async def test_an_append_is_durable_where_the_database_says_it_need_not_be(dsn: str) -> None:
    async with open_proof(dsn) as connection:
        name = await connection.fetchval("select current_database()")
        for weaker, kept in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
            await connection.execute(f"alter database {name} set synchronous_commit = {weaker}")
            async with open_shard(dsn) as shard:
                assert shard._log is not None
                seen = await shard._log.inserts.run(
                    lambda inserts: inserts.fetchval("show synchronous_commit"), timeout_seconds=5
                )
                assert seen == kept
                assert await shard.append([as_entry(e) for e in cut_request({("video", "view"): 1})])
    await assert_exact(dsn, {("video", "view"): 3})
