"""Counts that 32 bits do not hold, from the rollups to the caller."""

import datetime as dt

import pytest

from tests.integration.services.api import Api
from tests.support.rollups import add_counts, count_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = 3_000_000_000
MINUTE = dt.datetime(2017, 10, 9, 12, 30, tzinfo=dt.UTC)


async def test_a_count_beyond_32_bits_goes_on(api: Api) -> None:
    client, video = api.stack.client, "large"
    await add_counts(api.database, {(video, "view", int(MINUTE.timestamp()) // 60): LARGE})
    await client.count(video, event_time=MINUTE)
    assert (await client.get_count(video, strong=True)).count == LARGE + 1
    await api.flushed()
    # The flush has added to it, and every way to read it says so.
    assert await count_of(api.database, video) == LARGE + 1
    assert (await client.get_count(video, strong=True)).count == LARGE + 1
    assert (await client.get_count(video, start=MINUTE)).count == LARGE + 1
    for _ in range(2):  # from Postgres, and from Valkey
        assert (await client.get_count(video)).count == LARGE + 1
    assert (await client.get_stats(video, "view", "count")).value == LARGE + 1
