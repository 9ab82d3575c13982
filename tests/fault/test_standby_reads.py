"""A query service that reads from a hot standby: strong reads are strong, and `as_of` is true."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import pytest
import pytest_asyncio

from libs.embedded.postgres import EmbeddedPostgresSettings
from services.counting.shard import Shard
from services.query.settings import QuerySettings
from tally.common.v1.common_pb2 import CONSISTENCY_STRONG
from tally.query.v1 import query_pb2
from tests.fault.table.pair import Pair, open_pair
from tests.integration.services.api import TIMEOUT_S, Api, open_api, refused
from tests.support.database import make_template
from tests.support.eventually import eventually
from tests.support.servers import Servers
from tests.support.shards import open_shard, send
from tests.support.stack import open_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

_IS_PAUSED = "select pg_get_wal_replay_pause_state() = 'paused'"
_IS_REPLAYED = "select pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with open_pair(EmbeddedPostgresSettings(max_connections=100, shared_buffers_mb=64)) as opened:
        await make_template(opened.primary.url)
        yield opened


async def view(shard: Shard, video_id: str, times: int = 1) -> None:
    for _ in range(times):
        await send(shard, {(video_id, "view"): 1})


async def read(api: Api, video_id: str) -> tuple[int, int]:
    """A range, which no cache answers: the count, and as of when in microseconds."""
    request = query_pb2.GetViewsCountRequest(video_id=video_id)
    request.start_time.seconds = 946_684_800
    answer = await api.query.GetViewsCount(request, timeout=TIMEOUT_S)
    return answer.count, answer.as_of.ToMicroseconds()


async def replayed(standby: asyncpg.Connection) -> None:
    async def is_replayed() -> bool:
        return bool(await standby.fetchval(_IS_REPLAYED))

    await eventually(is_replayed)


async def test_while_replay_lags_as_of_is_before_what_the_answer_lacks_and_strong_reads_are_refused(
    pair: Pair, servers: Servers, tmp_path: Path
) -> None:
    async with (
        open_shard(pair.primary.url) as shard,
        open_stack(pair.standby.dsn, servers.valkey_url, tmp_path, ["query"]) as stack,
        open_api(stack) as api,
    ):
        await view(shard, "lags")
        await eventually_counts(api, "lags", 1)
        await api.database.execute("select pg_wal_replay_pause()")

        async def is_paused() -> bool:
            return bool(await api.database.fetchval(_IS_PAUSED))

        await eventually(is_paused)
        await view(shard, "lags", 5)
        acknowledged_us = time.time_ns() // 1000  # both servers run on this machine
        count, as_of_us = await read(api, "lags")
        assert (count, as_of_us < acknowledged_us) == (1, True)
        request = query_pb2.GetViewsCountRequest(video_id="lags", consistency=CONSISTENCY_STRONG)
        refusal = await refused(api.query.GetViewsCount(request, timeout=TIMEOUT_S))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_PRIMARY")
        assert "TALLY_QUERY__PRIMARY_DSN" in refusal.message
        await api.database.execute("select pg_wal_replay_resume()")
        await eventually_counts(api, "lags", 6)

        async def has_gone_on() -> bool:
            return (await read(api, "lags"))[1] > acknowledged_us

        await eventually(has_gone_on)  # heartbeats are replayed, too


async def test_strong_reads_go_to_the_primary_and_to_the_standby_once_it_is_promoted(
    pair: Pair, servers: Servers, tmp_path: Path
) -> None:
    with_primary = {"query": QuerySettings(primary_dsn=pair.primary.url)}
    async with (
        open_stack(pair.standby.dsn, servers.valkey_url, tmp_path / "one", ["query"], with_primary) as one,
        open_stack(pair.standby.dsn, servers.valkey_url, tmp_path / "other", ["query"]) as other,
        open_api(one) as api,
        open_api(other) as api_of_standby,
    ):
        async with open_shard(pair.primary.url) as shard:
            await replayed(api.database)
            await api.database.execute("select pg_wal_replay_pause()")
            await view(shard, "strong", 5)
            assert await api.count("strong") == 5
            await api.database.execute("select pg_wal_replay_resume()")
        await replayed(api.database)
        await pair.standby.promote()
        assert await api_of_standby.count("strong") == 5


async def eventually_counts(api: Api, video_id: str, count: int) -> None:
    async def does_count() -> bool:
        return (await read(api, video_id))[0] == count

    await eventually(does_count)
