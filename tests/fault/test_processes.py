"""Processes that are killed and frozen. What was acknowledged is counted, once."""

import asyncio
from pathlib import Path

import pytest
import redis

from tally.client import Client, Event, Unavailable
from tally.counting.v1.counting_pb2 import OUTCOME_DUPLICATE, OUTCOME_JOURNALED
from tests.support.entries import append, cut_request, new_id
from tests.support.eventually import eventually
from tests.support.processes import FAST, NO_FLUSH, run_service, stop
from tests.support.proof import assert_exact, open_proof, rolled_up, states
from tests.support.proxy import open_proxy
from tests.support.servers import breakable_postgres
from tests.support.shards import FAST as FAST_RECOVERY
from tests.support.shards import NEVER, open_shard, quick, send
from tests.support.stack import OpenService, open_stack

pytestmark = pytest.mark.exact

COUNTS = {(f"video {n}", "view"): n + 1 for n in range(8)}
ONE = {("after", "view"): 1}


async def test_a_kill_after_the_commit_and_before_the_flush_loses_nothing(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    entries = cut_request(COUNTS)
    async with run_service("counting", dsn, valkey_url, tmp_path, env=FAST | NO_FLUSH) as first:
        assert set(await append(first.address, entries)) == {OUTCOME_JOURNALED}
        first.kill()
    async with open_proof(dsn) as connection:
        assert not await rolled_up(connection)
    async with run_service("counting", dsn, valkey_url, tmp_path, env=FAST) as second:
        assert set(await append(second.address, entries)) == {OUTCOME_DUPLICATE}
        await assert_exact(dsn, COUNTS)


async def test_a_zombie_whose_log_was_taken_over_cannot_write_any_more(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with (
        run_service("counting", dsn, valkey_url, tmp_path, env=FAST | NO_FLUSH) as zombie,
        run_service("counting", dsn, valkey_url, tmp_path, env=FAST) as other,
        open_proof(dsn) as connection,
    ):
        entries = cut_request(COUNTS)
        assert set(await append(zombie.address, entries)) == {OUTCOME_JOURNALED}
        zombie.freeze()
        # It lies in the queue of the frozen process, which will answer when it is awake.
        late = asyncio.create_task(append(zombie.address, cut_request(ONE), 30.0))

        async def is_taken_over() -> bool:
            return (await states(connection))["settled"] == 1

        await eventually(is_taken_over)
        assert await rolled_up(connection) == COUNTS
        assert set(await append(other.address, entries)) == {OUTCOME_DUPLICATE}
        zombie.thaw()
        assert await late == [OUTCOME_JOURNALED]  # under a new log: the old one was closed
        assert set(await append(zombie.address, entries)) == {OUTCOME_DUPLICATE}
        await stop(zombie)  # flushes what it has
        await assert_exact(dsn, COUNTS | ONE)


async def test_a_shard_frozen_between_two_statements_of_its_flush_is_taken_over(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with (
        open_proxy(dsn) as proxy,
        run_service("counting", proxy.dsn, valkey_url, tmp_path, env=FAST) as frozen,
        run_service("counting", dsn, valkey_url, tmp_path, env=FAST),
        open_proof(dsn) as connection,
    ):
        in_transaction = asyncio.Event()

        def freeze_in_flush(name: str, data: bytes) -> None:
            if "counting flushes" not in name or in_transaction.is_set():
                return
            if b"insert into counting.rollup_block" in data:  # the checkpoint has been moved, and is locked
                frozen.freeze()
                in_transaction.set()

        proxy.on_request = freeze_in_flush
        assert set(await append(frozen.address, cut_request(COUNTS))) == {OUTCOME_JOURNALED}
        async with asyncio.timeout(20):
            await in_transaction.wait()

        async def is_taken_over() -> bool:
            return (await states(connection))["settled"] == 1

        await eventually(is_taken_over)
        await assert_exact(dsn, COUNTS)
        frozen.thaw()
        assert await append(frozen.address, cut_request(ONE), 30.0) == [OUTCOME_JOURNALED]
        await assert_exact(dsn, COUNTS | ONE)


async def test_a_shard_frozen_in_the_middle_of_a_recovery_holds_up_nobody(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_shard(dsn, quick(NEVER), "dies", is_killed=True) as dies:
        await send(dies, COUNTS)
    async with (
        open_proxy(dsn) as proxy,
        run_service("counting", proxy.dsn, valkey_url, tmp_path, env=FAST) as frozen,
        open_proof(dsn) as connection,
    ):
        in_transaction = asyncio.Event()

        def freeze_in_recovery(name: str, data: bytes) -> None:
            if "counting upkeep" in name and b"insert into counting.rollup_block" in data:
                frozen.freeze()
                in_transaction.set()

        proxy.on_request = freeze_in_recovery
        async with asyncio.timeout(20):
            await in_transaction.wait()
        async with run_service("counting", dsn, valkey_url, tmp_path, env=FAST):

            async def is_taken_over() -> bool:
                return (await states(connection))["settled"] == 2  # the dead one's and the frozen one's

            await eventually(is_taken_over)
        await assert_exact(dsn, COUNTS)


async def test_a_server_that_falls_silent_is_left_for_one_that_answers(dsn: str) -> None:
    """The machine is gone and nobody says so: no answer comes, and no connection ends."""
    recovery = FAST_RECOVERY.model_copy(update={"statement_timeout_seconds": 1.0})
    settings = quick(recovery=recovery)
    settings = settings.model_copy(
        update={"journal": settings.journal.model_copy(update={"insert_timeout_seconds": 1.0})}
    )
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, settings) as shard:
        await send(shard, COUNTS)
        proxy.silence()
        async with asyncio.timeout(15):
            await send(shard, ONE)
        await assert_exact(dsn, COUNTS | ONE)


async def test_a_kill_of_every_service_under_load_loses_and_doubles_nothing(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    """Clients retry under the same id until they are told; shards die at moments that nobody chose."""
    acknowledged: dict[tuple[str, str], int] = {}
    async with (
        run_service("counting", dsn, valkey_url, tmp_path, env=FAST) as a,
        run_service("counting", dsn, valkey_url, tmp_path, env=FAST) as b,
    ):
        shards = (a.address, b.address)
        async with run_service("partitioner", dsn, valkey_url, tmp_path, shards=shards) as partitioner:

            async def count(number: int) -> None:
                async with Client(partitioner.address, timeout=30.0) as client:
                    for n in range(25):
                        video = f"video {(number + n) % 7}"
                        request = client.batch([Event(video), Event(f"other {n}", "like")])
                        for _ in range(2):  # and once more, as a client does whose answer was lost
                            receipt = await client.process_many(
                                request.columns, request_id=request.request_id
                            )
                            assert receipt.accepted_count + receipt.duplicate_count == 2
                        for key in ((video, "view"), (f"other {n}", "like")):
                            acknowledged[key] = acknowledged.get(key, 0) + 1

            counting = [asyncio.create_task(count(number)) for number in range(4)]
            await asyncio.sleep(0.2)
            a.kill()
            await asyncio.gather(*counting)
        await assert_exact(dsn, acknowledged)


async def test_a_restart_of_everything_loses_nothing(valkey_url: str, tmp_path: Path) -> None:
    """Postgres is killed with the services on top of it, and all of them start again."""
    async with breakable_postgres(is_migrated=True) as postgres:
        receipts = []
        async with open_stack(postgres.url, valkey_url, tmp_path / "first", overrides=None) as stack:
            receipts = [await stack.client.count(f"video {n % 5}") for n in range(50)]
            postgres.kill()
        assert sum(receipt.accepted_count for receipt in receipts) == 50
        await postgres.start()
        async with open_stack(postgres.url, valkey_url, tmp_path / "second") as stack:
            assert (await stack.client.get_count("video 1", strong=True)).count == 10
            for receipt, n in zip(receipts, range(50), strict=True):
                again = await stack.client.process_many(
                    [Event(f"video {n % 5}")], request_id=receipt.request_id
                )
                assert (again.accepted_count, again.duplicate_count) == (0, 1)
            await assert_exact(postgres.url, {(f"video {n}", "view"): 10 for n in range(5)})


async def test_postgres_killed_and_restarted_under_a_call_loses_nothing(
    valkey_url: str, tmp_path: Path
) -> None:
    async with (
        breakable_postgres(is_migrated=True) as postgres,
        open_stack(postgres.url, valkey_url, tmp_path) as stack,
    ):
        await stack.client.count("video")
        request_id = str(new_id())
        postgres.kill()
        waiting = asyncio.create_task(stack.client.count("video", request_id=request_id, timeout=60.0))
        await postgres.start()
        receipt = await waiting
        assert receipt.accepted_count + receipt.duplicate_count == 1
        await assert_exact(postgres.url, {("video", "view"): 2})


async def test_a_wiped_valkey_changes_no_answer(open_service: OpenService, dsn: str, valkey_url: str) -> None:
    async with open_service("all") as stack:
        for _ in range(3):
            await stack.client.count("video")

        async def is_counted() -> bool:
            return (await stack.client.get_count("video")).count == 3

        await eventually(is_counted)
        with redis.Redis.from_url(valkey_url) as valkey:
            valkey.flushall()
        assert (await stack.client.get_count("video")).count == 3
        assert (await stack.client.get_count("video", strong=True)).count == 3
        await assert_exact(dsn, {("video", "view"): 3})


async def test_a_strong_read_sees_what_was_just_acknowledged(open_service: OpenService, dsn: str) -> None:
    async with open_service("all") as stack:
        for n in range(1, 60):
            await stack.client.count("video")
            assert (await stack.client.get_count("video", strong=True)).count == n
        await assert_exact(dsn, {("video", "view"): 59})


async def test_reads_say_so_while_postgres_is_away_and_answer_when_it_is_back(
    valkey_url: str, tmp_path: Path
) -> None:
    async with (
        breakable_postgres(is_migrated=True) as postgres,
        open_stack(postgres.url, valkey_url, tmp_path) as stack,
    ):
        await stack.client.count("video")
        postgres.kill()
        for strong in (True, False):
            with pytest.raises(Unavailable):
                await stack.client.get_count("video", strong=strong, timeout=2.0)
        await postgres.start()

        async def is_answered() -> bool:
            try:
                return (await stack.client.get_count("video", strong=True)).count == 1
            except Unavailable:
                return False

        await eventually(is_answered)
