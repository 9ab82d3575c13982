"""What comes out of a spool is counted once, whatever happens on the way, or becomes a dead letter."""

import asyncio
import datetime as dt
from collections import Counter
from pathlib import Path

import pytest

from libs.domain.entry import Outcome
from services.counting.settings import SpoolSettings
from services.counting.spool.file import NoRoom
from tally.contract.request_id import first_id_of, make_request_id, time_ms_of
from tally.counting.v1.counting_pb2 import OUTCOME_DUPLICATE, OUTCOME_SPOOLED
from tests.support.entries import append, as_entry, cut_request, new_id
from tests.support.eventually import eventually
from tests.support.processes import FAST as FAST_ENV
from tests.support.processes import run_service
from tests.support.proof import assert_exact, journaled, open_proof
from tests.support.proxy import Cut, Proxy, open_proxy
from tests.support.rollups import read_rollups
from tests.support.shards import open_shard, quick, send
from tests.support.spooling import COUNTS, ONE, assert_drained, read_letters, spool

pytestmark = pytest.mark.exact

_WARN_ONCE = """
create sequence warned;
create function warn_once() returns trigger language plpgsql as $$
begin
    if nextval('warned') = 1 then raise warning 'not on the standby' using errcode = 'query_canceled'; end if;
    return null;
end $$;
create trigger warn_once after insert on counting.dead_letter for each statement execute function warn_once()"""


async def test_an_insert_in_doubt_that_was_committed_is_spooled_and_counts_once(
    dsn: str, tmp_path: Path
) -> None:
    """The answer is lost with the server: the journal has the entry, and so has the spool."""
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, spool_folder=tmp_path) as shard:
        await send(shard, ONE)  # from here on the next request is the insert itself
        proxy.cuts["counting inserts"] = Cut.BEFORE_ANSWER
        proxy.is_shut = True  # to all that knock after that
        request_id = new_id()
        assert await send(shard, COUNTS, request_id) == {Outcome.SPOOLED}
        async with open_proof(dsn) as connection:
            assert await journaled(connection) == Counter(COUNTS | ONE)
        proxy.reopen()
        await assert_drained(dsn, shard, COUNTS | ONE)
        assert await send(shard, COUNTS, request_id) == {Outcome.DUPLICATE}


@pytest.mark.parametrize("cut", Cut)
async def test_a_drain_in_doubt_counts_once(dsn: str, tmp_path: Path, cut: Cut) -> None:
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, spool_folder=tmp_path) as shard:
        acknowledged = await spool(shard, proxy, COUNTS)
        cut_first_drain(proxy, cut)
        proxy.reopen()
        await assert_drained(dsn, shard, acknowledged)
        assert not proxy.cuts


def cut_first_drain(proxy: Proxy, cut: Cut) -> None:
    """Cut the connection with the first insert into the journal, whatever comes before it on that connection."""

    def look(name: str, data: bytes) -> None:
        if "counting inserts" in name and b"insert into counting.journal" in data:
            proxy.on_request = None
            # That request prepares the statement; the next one runs it.
            proxy.cuts["counting inserts"] = cut

    proxy.on_request = look


async def test_a_shard_killed_with_a_full_hand_and_killed_again_while_it_drains_counts_once(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    requests = 100
    entries = [entry for _ in range(requests) for entry in cut_request(ONE)]
    env = FAST_ENV | {"TALLY_COUNTING__SPOOL__DRAIN_ENTRIES": "1"}
    async with (
        open_proxy(dsn) as proxy,
        run_service("counting", proxy.dsn, valkey_url, tmp_path, env=env) as first,
    ):
        proxy.shut()
        assert set(await append(first.address, entries)) == {OUTCOME_SPOOLED}
        first.kill()
    async with open_proof(dsn) as connection:
        assert not await journaled(connection)

        async with open_proxy(dsn) as proxy:
            fell_silent = fall_silent_after(proxy, packets=40)
            async with run_service("counting", proxy.dsn, valkey_url, tmp_path, env=env) as second:
                await asyncio.wait_for(fell_silent.wait(), 20)
                second.kill()
        assert 0 < await connection.fetchval("select count(*) from counting.journal") < requests

        async def is_journaled() -> bool:
            return bool(await connection.fetchval("select count(*) = $1 from counting.journal", requests))

        async with run_service("counting", dsn, valkey_url, tmp_path, env=FAST_ENV) as third:
            await eventually(is_journaled)
            assert set(await append(third.address, entries)) == {OUTCOME_DUPLICATE}
            await assert_exact(dsn, {key: n * requests for key, n in ONE.items()})


def fall_silent_after(proxy: Proxy, packets: int) -> asyncio.Event:
    """Nothing passes any more from that packet of the inserts on. Some prepare the statement; one more is an insert."""
    left, fell_silent = packets, asyncio.Event()

    def look(name: str, _: bytes) -> None:
        nonlocal left
        left -= "counting inserts" in name
        if not left:
            proxy.silence(new=True)
            fell_silent.set()

    proxy.on_request = look
    return fell_silent


async def test_a_spooled_request_that_another_shard_has_counted_counts_once(dsn: str, tmp_path: Path) -> None:
    async with (
        open_proxy(dsn) as proxy,
        open_shard(proxy.dsn, name="a", spool_folder=tmp_path) as a,
        open_shard(dsn, name="b", spool_folder=tmp_path) as b,
    ):
        proxy.shut()
        request_id = new_id()
        assert await send(a, COUNTS, request_id) == {Outcome.SPOOLED}
        assert await send(b, COUNTS, request_id) == {Outcome.JOURNALED}
        proxy.reopen()
        await assert_drained(dsn, a, COUNTS)


async def test_a_request_spooled_by_two_shards_counts_once(dsn: str, tmp_path: Path) -> None:
    async with (
        open_proxy(dsn) as proxy,
        open_shard(proxy.dsn, name="a", spool_folder=tmp_path) as a,
        open_shard(proxy.dsn, name="b", spool_folder=tmp_path) as b,
    ):
        proxy.shut()
        request_id = new_id()
        for shard in (a, b):
            assert await send(shard, COUNTS, request_id) == {Outcome.SPOOLED}
        proxy.reopen()
        for shard in (a, b):
            await assert_drained(dsn, shard, COUNTS)


async def test_an_id_taken_by_other_content_meanwhile_makes_a_dead_letter(dsn: str, tmp_path: Path) -> None:
    other = {("video", "view"): 2}
    async with (
        open_proxy(dsn) as proxy,
        open_shard(proxy.dsn, name="a", spool_folder=tmp_path) as a,
        open_shard(dsn, name="b", spool_folder=tmp_path) as b,
    ):
        proxy.shut()
        request_id = new_id()
        assert await send(a, {("video", "view"): 1}, request_id) == {Outcome.SPOOLED}
        assert await send(b, other, request_id) == {Outcome.JOURNALED}
        proxy.reopen()
        await assert_drained(dsn, a, other)
        assert await send(b, other, request_id) == {Outcome.DUPLICATE}
    [letter] = await read_letters(dsn)
    assert letter["request_id"] == request_id
    assert "other content" in letter["reason"]


async def test_an_entry_that_the_floor_has_passed_becomes_a_dead_letter_with_its_events(
    dsn: str, tmp_path: Path
) -> None:
    old = make_request_id(time_ms_of(new_id()) - 23 * 3_600_000)
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, spool_folder=tmp_path) as shard:
        proxy.shut()
        assert await send(shard, ONE, old) == {Outcome.SPOOLED}
        assert await send(shard, COUNTS) == {Outcome.SPOOLED}
        async with open_proof(dsn) as connection:
            floor = make_request_id(time_ms_of(old) + 60_000)
            await connection.execute("update public.cluster set floor = $1", floor)
        proxy.reopen()
        await assert_drained(dsn, shard, COUNTS)
    [letter] = await read_letters(dsn)
    assert (letter["request_id"], letter["log_id"], letter["seq"]) == (old, None, None)
    assert letter["payload"] == as_entry(cut_request(ONE, old)[0]).payload
    assert letter["events"] == 1
    assert "older than the floor" in letter["reason"]


async def test_a_dead_letter_that_is_committed_with_a_warning_stays_in_the_spool_until_it_is_durable(
    dsn: str, tmp_path: Path
) -> None:
    old = make_request_id(time_ms_of(new_id()) - 23 * 3_600_000)
    async with (
        open_proof(dsn) as connection,
        open_proxy(dsn) as proxy,
        open_shard(proxy.dsn, spool_folder=tmp_path) as shard,
    ):
        proxy.shut()
        assert await send(shard, ONE, old) == {Outcome.SPOOLED}
        await connection.execute(
            "update public.cluster set floor = $1", make_request_id(time_ms_of(old) + 60_000)
        )
        await connection.execute(_WARN_ONCE)
        proxy.reopen()
        await assert_drained(dsn, shard, {})
        # The second attempt found the letter there, and its commit came without a warning.
        assert await connection.fetchval("select last_value from warned") == 2
    [letter] = await read_letters(dsn)
    assert letter["request_id"] == old


async def test_an_entry_that_the_floor_has_passed_and_that_was_counted_elsewhere_is_no_dead_letter(
    dsn: str, tmp_path: Path
) -> None:
    old = make_request_id(time_ms_of(new_id()) - 23 * 3_600_000)
    async with (
        open_proxy(dsn) as proxy,
        open_shard(proxy.dsn, name="a", spool_folder=tmp_path) as a,
        open_shard(dsn, name="b", spool_folder=tmp_path) as b,
    ):
        proxy.shut()
        assert await send(a, ONE, old) == {Outcome.SPOOLED}
        assert await send(b, ONE, old) == {Outcome.JOURNALED}
        async with open_proof(dsn) as connection:
            await connection.execute(
                "update public.cluster set floor = $1", make_request_id(time_ms_of(old) + 60_000)
            )
        proxy.reopen()
        await assert_drained(dsn, a, ONE)
    assert not await read_letters(dsn)


async def test_a_shard_that_stops_drains_its_spool_first(dsn: str, tmp_path: Path) -> None:
    async with open_proxy(dsn) as proxy:
        async with open_shard(proxy.dsn, spool_folder=tmp_path) as shard:
            acknowledged = await spool(shard, proxy, COUNTS)
            proxy.reopen()

            async def has_log() -> bool:
                return shard.has_log

            await eventually(has_log)
        await assert_exact(dsn, acknowledged)
        async with open_proof(dsn) as connection:
            assert await journaled(connection) == Counter(acknowledged)


async def test_a_shard_that_stops_without_postgres_leaves_its_spool_to_its_next_life(
    dsn: str, tmp_path: Path
) -> None:
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, spool_folder=tmp_path) as shard:
        acknowledged = await spool(shard, proxy, COUNTS)
    async with open_proof(dsn) as connection:
        assert not await journaled(connection)
    async with open_shard(dsn, spool_folder=tmp_path) as shard:
        await assert_drained(dsn, shard, acknowledged)


async def test_an_entry_that_stays_holds_up_none_behind_it(dsn: str, tmp_path: Path) -> None:
    """There is no partition of the journal for the first one's day, until somebody makes it."""
    old = make_request_id(time_ms_of(new_id()) - 23 * 3_600_000)
    day = f"journal_{dt.datetime.fromtimestamp(time_ms_of(old) / 1000, dt.UTC):%Y_%m_%d}"
    settings = quick().model_copy(update={"spool": SpoolSettings(drain_entries=1)})
    async with (
        open_proof(dsn) as connection,
        open_proxy(dsn) as proxy,
        open_shard(proxy.dsn, settings, spool_folder=tmp_path) as shard,
    ):
        proxy.shut()
        assert await send(shard, ONE, old) == {Outcome.SPOOLED}
        assert await send(shard, COUNTS) == {Outcome.SPOOLED}
        await connection.execute(f"alter table counting.journal detach partition counting.{day}")
        proxy.reopen()

        async def is_alone() -> bool:
            return shard.spool is not None and shard.spool.contents.entry_count == 1

        await eventually(is_alone)
        await assert_exact(dsn, COUNTS)
        first = dt.datetime.strptime(day, "journal_%Y_%m_%d").replace(tzinfo=dt.UTC)
        start_ms = int(first.timestamp() * 1000)
        bounds = (first_id_of(start_ms), first_id_of(start_ms + 86_400_000))
        await connection.execute(
            f"alter table counting.journal attach partition counting.{day} "
            f"for values from ('{bounds[0]}') to ('{bounds[1]}')"
        )
        await assert_drained(dsn, shard, COUNTS | ONE)


async def test_a_spool_that_cannot_forget_is_journaled_all_the_same(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is full: what comes behind the first share is not kept back."""
    settings = quick().model_copy(update={"spool": SpoolSettings(drain_entries=1)})
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, settings, spool_folder=tmp_path) as shard:
        acknowledged = await spool(shard, proxy, COUNTS)
        assert shard.spool is not None
        kept = shard.spool.contents.entry_count
        assert kept > 1
        with monkeypatch.context() as patch:

            async def fail(_entries: object) -> None:
                raise NoRoom("database or disk is full")

            patch.setattr(shard.spool, "delete", fail)
            proxy.reopen()
            await assert_exact(dsn, acknowledged)
            assert shard.spool.contents.entry_count == kept
        await assert_drained(dsn, shard, acknowledged)


async def test_a_fresh_entry_does_not_wait_for_the_drain(dsn: str, tmp_path: Path) -> None:
    requests = 200
    settings = quick().model_copy(update={"spool": SpoolSettings(drain_entries=1)})
    async with open_proxy(dsn) as proxy, open_shard(proxy.dsn, settings, spool_folder=tmp_path) as shard:
        proxy.shut()
        await shard.append([as_entry(entry) for _ in range(requests) for entry in cut_request(ONE)])
        proxy.reopen()

        async def is_draining() -> bool:
            return shard.spool is not None and 0 < shard.spool.contents.entry_count < requests

        await eventually(is_draining)
        assert await send(shard, COUNTS) == {Outcome.JOURNALED}
        assert await is_draining()
        await assert_drained(dsn, shard, COUNTS | {key: n * requests for key, n in ONE.items()})


async def test_spooled_events_count_in_the_minute_of_their_first_receipt(dsn: str, tmp_path: Path) -> None:
    async with open_proxy(dsn) as proxy:
        async with open_shard(proxy.dsn, spool_folder=tmp_path) as shard:
            proxy.shut()
            long_ago_us = shard._clock.now_us() - 7_200_000_000
            assert shard.spool is not None
            assert await shard.spool.write([as_entry(e) for e in cut_request(ONE)], long_ago_us) == [
                Outcome.SPOOLED
            ]
            proxy.reopen()
            await assert_drained(dsn, shard, ONE)
        async with open_proof(dsn) as connection:
            [key] = await read_rollups(connection)
            assert key.minute == long_ago_us // 60_000_000
