"""Postgres is unreachable: entries become durable on the shard's own disk, and are counted when it is back."""

import resource
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from libs.domain.entry import Outcome
from services.counting.settings import JournalSettings, SpoolSettings
from tally.client import Durability
from tally.contract.errors import Overloaded, Unavailable
from tally.counting.v1.counting_pb2 import OUTCOME_SPOOLED
from tests.support.entries import append, as_entry, cut_request, new_id
from tests.support.eventually import eventually
from tests.support.processes import FAST as FAST_ENV
from tests.support.processes import run_service, stop
from tests.support.proof import assert_exact, journaled, open_proof
from tests.support.proxy import open_proxy
from tests.support.servers import breakable_postgres
from tests.support.shards import FAST, open_shard, quick, send
from tests.support.spooling import COUNTS, ONE, assert_drained, count_until_spooled, spool
from tests.support.stack import open_stack

pytestmark = pytest.mark.exact


SLACK_S = 3.0
"""for a machine that is busy with other things"""


async def test_entries_are_spooled_while_postgres_is_down_and_counted_once_it_is_back(tmp_path: Path) -> None:
    acknowledged = Counter(COUNTS)
    async with (
        breakable_postgres(is_migrated=True) as postgres,
        open_shard(postgres.url, spool_folder=tmp_path) as shard,
    ):
        assert await send(shard, COUNTS) == {Outcome.JOURNALED}
        postgres.kill()
        await count_until_spooled(shard, acknowledged)
        request_id = new_id()
        for _ in range(2):
            assert await send(shard, COUNTS, request_id) == {Outcome.SPOOLED}
        acknowledged.update(COUNTS)
        assert shard.is_ready
        await postgres.start()
        await assert_drained(postgres.url, shard, acknowledged)
        assert await send(shard, COUNTS, request_id) == {Outcome.DUPLICATE}


async def test_a_server_that_falls_silent_is_left_for_the_spool(dsn: str, tmp_path: Path) -> None:
    """No answer comes, no connection ends, new ones are as silent: the first call waits for the insert's time-out."""
    settings = quick(recovery=FAST).model_copy(
        update={"journal": JournalSettings(insert_timeout_seconds=1.0)}
    )
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, settings, spool_folder=tmp_path) as shard:
        assert await send(shard, COUNTS) == {Outcome.JOURNALED}
        proxy.silence(new=True)
        request_id, asked = new_id(), time.monotonic()
        assert await send(shard, COUNTS, request_id) == {Outcome.SPOOLED}
        assert time.monotonic() - asked < 1.0 + 1.0 + SLACK_S
        assert shard.is_ready
        asked = time.monotonic()
        assert await send(shard, COUNTS, request_id) == {Outcome.SPOOLED}
        assert time.monotonic() - asked < 1.0
        proxy.reopen()
        await assert_drained(dsn, shard, {key: 2 * n for key, n in COUNTS.items()})


IMPATIENT = quick(recovery=FAST).model_copy(update={"journal": JournalSettings(insert_timeout_seconds=0.5)})


_REFUSE = """
create function refuse() returns trigger language plpgsql as $$
begin raise exception 'no space left on device' using errcode = 'disk_full'; end $$;
create trigger refuse before insert on counting.journal for each statement execute function refuse()"""


_BE_SLOW = """
create function be_slow() returns trigger language plpgsql as $$
begin perform pg_sleep(0.005); return new; end $$;
create trigger be_slow before insert on counting.journal for each row execute function be_slow()"""


async def test_a_journal_that_takes_no_insert_is_left_for_the_spool_though_logs_can_be_opened(
    dsn: str, tmp_path: Path
) -> None:
    async with open_proof(dsn) as connection, open_shard(dsn, IMPATIENT, spool_folder=tmp_path) as shard:
        async with connection.transaction():
            await connection.execute("lock table counting.journal in share mode")
            assert await send(shard, COUNTS) == {Outcome.SPOOLED}
            assert shard.is_ready
        await assert_drained(dsn, shard, COUNTS)


async def test_a_server_that_refuses_all_inserts_is_left_for_the_spool(dsn: str, tmp_path: Path) -> None:
    async with open_proof(dsn) as connection, open_shard(dsn, IMPATIENT, spool_folder=tmp_path) as shard:
        await connection.execute(_REFUSE)
        assert await send(shard, COUNTS) == {Outcome.SPOOLED}
        await connection.execute("drop trigger refuse on counting.journal")
        await assert_drained(dsn, shard, COUNTS)


async def test_a_server_that_refuses_all_inserts_is_told_of_where_there_is_no_spool(dsn: str) -> None:
    async with open_proof(dsn) as connection, open_shard(dsn, IMPATIENT) as shard:
        await connection.execute(_REFUSE)
        assert await send(shard, COUNTS) == {Outcome.UNAVAILABLE}
        await connection.execute("drop trigger refuse on counting.journal")

        async def takes_entries() -> bool:
            try:
                return await send(shard, ONE) == {Outcome.JOURNALED}
            except Unavailable:
                return False

        await eventually(takes_entries)
        await assert_exact(dsn, ONE)


async def test_groups_too_large_for_the_time_there_is_become_smaller(dsn: str) -> None:
    requests = 400  # 2 s in one group, of which 0.5 s may pass
    async with open_proof(dsn) as connection, open_shard(dsn, IMPATIENT) as shard:
        await connection.execute(_BE_SLOW)
        left = [as_entry(entry) for _ in range(requests) for entry in cut_request(ONE)]

        async def are_taken() -> bool:
            nonlocal left
            try:
                outcomes = await shard.append(left)
            except Unavailable:
                return False
            left = [
                entry
                for entry, outcome in zip(left, outcomes, strict=True)
                if outcome not in (Outcome.JOURNALED, Outcome.DUPLICATE)
            ]
            return not left

        await eventually(are_taken)
        await assert_exact(dsn, {key: n * requests for key, n in ONE.items()})


async def test_a_full_spool_refuses_with_a_delay_and_what_it_took_is_counted(
    dsn: str, tmp_path: Path
) -> None:
    settings = quick().model_copy(update={"spool": SpoolSettings(max_bytes=1024**2)})
    acknowledged: Counter[tuple[str, str]] = Counter()
    large = {("video", "view"): 10_000}
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, settings, spool_folder=tmp_path) as shard:
        acknowledged.update(await spool(shard, proxy, ONE))

        async def fill() -> None:
            while True:
                assert await send(shard, large) == {Outcome.SPOOLED}
                acknowledged.update(large)

        with pytest.raises(Overloaded) as refused:
            await fill()
        assert refused.value.delay_s > 0
        assert not shard.is_ready
        proxy.reopen()
        await assert_drained(dsn, shard, acknowledged)
        assert shard.is_ready


async def test_a_spooled_entry_that_waits_for_too_long_makes_the_shard_unready(
    dsn: str, tmp_path: Path
) -> None:
    settings = quick().model_copy(update={"spool": SpoolSettings(max_age_seconds=1.0)})
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, settings, spool_folder=tmp_path) as shard:
        acknowledged = await spool(shard, proxy, ONE)
        assert shard.is_ready

        async def is_unready() -> bool:
            return not shard.is_ready

        await eventually(is_unready)
        proxy.reopen()
        await assert_drained(dsn, shard, acknowledged)
        assert shard.is_ready


async def test_without_a_spool_entries_are_refused_while_postgres_is_away(dsn: str) -> None:
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn) as shard:
        proxy.shut()

        async def is_refused() -> bool:
            try:
                return await send(shard, ONE) == {Outcome.UNAVAILABLE}
            except Unavailable:
                return True

        await eventually(is_refused)
        assert not shard.is_ready
        proxy.reopen()
        await assert_exact(dsn, {})


async def test_a_full_disk_refuses_and_the_shard_lives_on(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    """No file of the process may grow any more, which is what a full disk looks like to it."""
    large, small = cut_request({("large", "view"): 50_000}), cut_request(ONE)
    env = FAST_ENV | {"TALLY_COUNTING__SHARD": "shard"}
    async with (
        open_proxy(dsn) as proxy,
        run_service("counting", proxy.dsn, valkey_url, tmp_path, env=env) as shard,
    ):
        proxy.shut()
        assert await append(shard.address, small) == [OUTCOME_SPOOLED]
        _, most = resource.prlimit(shard.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(shard.process.pid, resource.RLIMIT_FSIZE, (_written_by(tmp_path), most))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await append(shard.address, large)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        resource.prlimit(shard.process.pid, resource.RLIMIT_FSIZE, (most, most))
        assert await append(shard.address, large) == [OUTCOME_SPOOLED]
        proxy.reopen()
        async with open_proof(dsn) as connection:

            async def is_journaled() -> bool:
                return await journaled(connection) == Counter(ONE | {("large", "view"): 50_000})

            await eventually(is_journaled)
        await stop(shard)
    await assert_exact(dsn, ONE | {("large", "view"): 50_000})


def _written_by(folder: Path) -> int:
    """The size of the largest file of the database there, and a little for its log."""
    return max(each.stat().st_size for each in folder.rglob("spool.sqlite*")) + 8192


async def test_callers_are_told_that_their_events_are_spooled(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with open_proxy(dsn) as proxy, open_stack(proxy.dsn, valkey_url, tmp_path) as stack:
        proxy.shut()
        request_id = str(new_id())
        receipt = await stack.client.count("video", request_id=request_id)
        assert receipt.durability is Durability.SPOOLED
        proxy.reopen()
        await eventually(lambda: _is_counted(dsn))
        again = await stack.client.count("video", request_id=request_id)
        assert (again.durability, again.duplicate_count) == (Durability.JOURNALED, 1)
        assert (await stack.client.get_count("video", strong=True)).count == 1
    await assert_exact(dsn, {("video", "view"): 1})


async def _is_counted(dsn: str) -> bool:
    async with open_proof(dsn) as connection:
        return bool(await journaled(connection))
