"""A request counts once, however often and wherever it is sent."""

import asyncio

import pytest

from libs.domain.entry import Outcome
from tally.contract.request_id import make_request_id, time_ms_of
from tests.support.entries import as_entry, cut_request, new_id
from tests.support.proof import assert_exact, open_proof
from tests.support.proxy import Cut, open_proxy
from tests.support.shards import NEVER, open_shard, quick, send

pytestmark = pytest.mark.exact

_DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)} | {("video 3", "like"): 5}


async def test_a_retry_on_the_same_shard_counts_once(dsn: str) -> None:
    async with open_shard(dsn) as shard:
        request_id = new_id()
        assert await send(shard, COUNTS, request_id) == {Outcome.JOURNALED}
        assert await send(shard, COUNTS, request_id) == {Outcome.DUPLICATE}
        await assert_exact(dsn, COUNTS)


async def test_a_retry_on_another_shard_counts_once(dsn: str) -> None:
    async with open_shard(dsn, name="a") as a, open_shard(dsn, name="b") as b:
        request_id = new_id()
        assert await send(a, COUNTS, request_id) == {Outcome.JOURNALED}
        assert await send(b, COUNTS, request_id) == {Outcome.DUPLICATE}
        await assert_exact(dsn, COUNTS)


async def test_a_request_sent_twice_at_once_to_two_shards_counts_once(dsn: str) -> None:
    async with open_shard(dsn, name="a") as a, open_shard(dsn, name="b") as b:
        ids = [new_id() for _ in range(40)]
        requests = [[as_entry(entry) for entry in cut_request(COUNTS, request_id)] for request_id in ids]
        # The other shard gets the same entries in the opposite order: unsorted groups would dead-lock.
        outcomes = await asyncio.gather(
            *(a.append(request) for request in requests),
            *(b.append(list(reversed(request))) for request in reversed(requests)),
        )
        told = [outcome for each in outcomes for outcome in each]
        assert told.count(Outcome.JOURNALED) == told.count(Outcome.DUPLICATE) == sum(map(len, requests))
        await assert_exact(dsn, {key: n * len(ids) for key, n in COUNTS.items()})


async def test_groups_of_two_shards_in_opposite_order_do_not_wait_for_each_other(dsn: str) -> None:
    requests = 300
    async with open_shard(dsn, name="a") as a, open_shard(dsn, name="b") as b:
        for _ in range(3):
            entries = [
                as_entry(entry) for n in range(requests) for entry in cut_request({("video", "view"): 1})
            ]
            await asyncio.gather(a.append(entries), b.append(list(reversed(entries))))
        await assert_exact(dsn, {("video", "view"): 3 * requests})
    async with open_proof(dsn) as connection:
        # What a session has seen is known to all when it ends; the shards have ended theirs.
        assert await connection.fetchval(_DEADLOCKS) == 0


async def test_two_inserts_of_one_request_in_one_group_commit_count_once(dsn: str) -> None:
    async with open_shard(dsn) as shard:
        entries = [as_entry(entry) for entry in cut_request(COUNTS)]
        outcomes = await shard.append(entries + entries)
        assert outcomes == [Outcome.JOURNALED] * len(entries) + [Outcome.DUPLICATE] * len(entries)
        await assert_exact(dsn, COUNTS)


@pytest.mark.parametrize("cut", Cut)
async def test_a_connection_cut_during_a_commit_counts_once(dsn: str, cut: Cut) -> None:
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn) as shard:
        await send(shard, {("first", "view"): 1})  # from here on the next request is the insert itself
        proxy.cuts["counting inserts"] = cut
        # The shard finds out by itself: it opens a new log, sends the group again, and recovers the old one.
        told = await send(shard, COUNTS)
        assert proxy.cut_count == 1
        assert told == {Outcome.JOURNALED if cut is Cut.BEFORE_REQUEST else Outcome.DUPLICATE}
        await assert_exact(dsn, {**COUNTS, ("first", "view"): 1})


async def test_a_connection_cut_during_a_flush_counts_once(dsn: str) -> None:
    for cut in Cut:
        async with open_proxy(dsn) as proxy, open_shard(proxy.dsn) as shard:
            proxy.cuts["counting flushes"] = cut
            await send(shard, COUNTS)
            await send(shard, {("after", "view"): 1})
    await assert_exact(dsn, {key: 2 * n for key, n in COUNTS.items()} | {("after", "view"): 2})


async def test_a_lost_acknowledgement_is_found_by_a_retry_elsewhere(dsn: str) -> None:
    """The shard dies with the answer: journaled, not flushed, not acknowledged."""
    request_id = new_id()
    async with open_shard(dsn, quick(NEVER), "dies", is_killed=True) as shard:
        await send(shard, COUNTS, request_id)
    async with open_shard(dsn, name="next") as shard:
        assert await send(shard, COUNTS, request_id) == {Outcome.DUPLICATE}
        await assert_exact(dsn, COUNTS)


async def test_an_id_below_the_floor_is_not_counted(dsn: str) -> None:
    async with open_shard(dsn) as shard:
        old = make_request_id(time_ms_of(new_id()) - 25 * 3_600_000)
        assert await send(shard, COUNTS, old) == {Outcome.BELOW_FLOOR}
        assert await send(shard, COUNTS) == {Outcome.JOURNALED}
        await assert_exact(dsn, COUNTS)


async def test_an_id_used_again_for_other_content_in_the_same_partition_is_refused(dsn: str) -> None:
    async with open_shard(dsn) as shard:
        request_id = new_id()
        assert await send(shard, {("video", "view"): 1}, request_id) == {Outcome.JOURNALED}
        assert await send(shard, {("video", "view"): 2}, request_id) == {Outcome.CONTENT_MISMATCH}
        assert await send(shard, {("video", "view"): 1}, request_id) == {Outcome.DUPLICATE}
        await assert_exact(dsn, {("video", "view"): 1})


async def test_an_id_used_again_for_other_content_in_another_partition_counts_there(dsn: str) -> None:
    """The guard is where an entry meets its predecessor; elsewhere there is none to meet."""
    first, second = {("video 0", "view"): 1}, {("video 3", "view"): 1}
    request_id = new_id()
    assert cut_request(first, request_id)[0].partition != cut_request(second, request_id)[0].partition
    async with open_shard(dsn) as shard:
        assert await send(shard, first, request_id) == {Outcome.JOURNALED}
        assert await send(shard, second, request_id) == {Outcome.JOURNALED}
        await assert_exact(dsn, {**first, **second})


async def test_one_id_with_two_contents_in_one_group_counts_one_of_them(dsn: str) -> None:
    async with open_shard(dsn) as shard:
        request_id = new_id()
        both = cut_request({("video", "view"): 1}, request_id) + cut_request(
            {("video", "view"): 2}, request_id
        )
        assert await shard.append([as_entry(entry) for entry in both]) == [
            Outcome.JOURNALED,
            Outcome.CONTENT_MISMATCH,
        ]
        await assert_exact(dsn, {("video", "view"): 1})
