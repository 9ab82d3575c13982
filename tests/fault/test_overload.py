"""More than a shard can take is refused before any work is done, and what it took is counted."""

import asyncio

import pytest

from services.counting.settings import CountingSettings, FlushSettings, JournalSettings
from tally.contract.errors import Overloaded
from tests.support.entries import as_entry, cut_request
from tests.support.eventually import eventually
from tests.support.proof import assert_exact
from tests.support.shards import FAST, NEVER, open_shard

pytestmark = pytest.mark.exact


async def test_entries_beyond_the_queue_are_refused_and_the_others_counted(dsn: str) -> None:
    settings = CountingSettings(journal=JournalSettings(max_waiting_entries=10), recovery=FAST)
    async with open_shard(dsn, settings) as shard:
        answers = await asyncio.gather(
            *(shard.append([as_entry(e) for e in cut_request({("video", "view"): 1})]) for _ in range(50)),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, Overloaded)]
        assert 0 < len(refused) < 50
        assert all(0 < answer.delay_s <= 2 for answer in refused)
        await assert_exact(dsn, {("video", "view"): 50 - len(refused)})


async def test_events_beyond_the_buffer_are_refused_until_a_flush_has_made_room(dsn: str) -> None:
    """The flush is not due for long; a buffer that is half full makes it due at once."""
    flush = FlushSettings(interval_seconds=NEVER, max_cells=100)
    counted = 0
    async with open_shard(dsn, CountingSettings(flush=flush, recovery=FAST)) as shard:

        async def send() -> bool:
            nonlocal counted
            counts = {(f"video {n}", "view"): 1 for n in range(30)}
            try:
                await shard.append([as_entry(entry) for entry in cut_request(counts)])
            except Overloaded:
                return False
            counted += 1
            return True

        assert sorted(await asyncio.gather(*(send() for _ in range(5)))) == [False, False, True, True, True]
        await eventually(send)
    await assert_exact(dsn, {(f"video {n}", "view"): counted for n in range(30)})  # the stop flushed the rest


async def test_a_request_larger_than_the_buffer_gets_in_when_nothing_else_is_there(dsn: str) -> None:
    """Or a shard whose flushes have become slow would refuse it for ever."""
    flush = FlushSettings(interval_seconds=NEVER, max_cells=100)
    large = {(f"video {n}", "view"): 1 for n in range(300)}
    async with open_shard(dsn, CountingSettings(flush=flush, recovery=FAST)) as shard:

        async def send() -> bool:
            try:
                await shard.append([as_entry(entry) for entry in cut_request(large)])
            except Overloaded:
                return False
            return True

        assert await send()
        assert not await send()
        await eventually(send)  # a flush has made room for it
    await assert_exact(dsn, dict.fromkeys(large, 2))
