"""The same calls on every service in one process, and on a process for each."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tally.client import Client, Event, Receipt
from tests.support.eventually import eventually
from tests.support.processes import FAST, run_service
from tests.support.proof import assert_exact
from tests.support.reach import open_client
from tests.support.stack import open_stack


class Deployment:
    """Where to write and where to read."""

    def __init__(self, writer: Client, reader: Client) -> None:
        self.writer = writer
        self.reader = reader


@pytest_asyncio.fixture(params=["all", "split"])
async def deployment(
    request: pytest.FixtureRequest, dsn: str, valkey_url: str, tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        if request.param == "all":
            opened = await stack.enter_async_context(open_stack(dsn, valkey_url, tmp_path))
            yield Deployment(opened.client, opened.client)
            return
        shards = [
            (
                await stack.enter_async_context(run_service("counting", dsn, valkey_url, tmp_path, env=FAST))
            ).address
            for _ in range(2)
        ]
        partitioner = await stack.enter_async_context(
            run_service("partitioner", dsn, valkey_url, tmp_path, shards=shards)
        )
        query = await stack.enter_async_context(run_service("query", dsn, valkey_url, tmp_path))
        writer = await stack.enter_async_context(open_client(partitioner.address, timeout=20.0))
        reader = await stack.enter_async_context(open_client(query.address, timeout=20.0))
        yield Deployment(writer, reader)


async def test_events_of_every_call_are_counted_once_and_read_back(deployment: Deployment, dsn: str) -> None:
    writer, reader = deployment.writer, deployment.reader
    await writer.count("video")
    await writer.process(Event("video", "watched", value=30.5))
    await writer.process_many([Event("video"), Event("other", "like", actor_id="somebody")])
    batches = [writer.batch([Event("video"), Event("video", "watched", value=9.5)]) for _ in range(5)]
    answers = [answer async for answer in writer.stream(batches + batches[:2])]
    assert all(isinstance(answer, Receipt) for answer in answers)
    expected = {("video", "view"): 7, ("video", "watched"): 6, ("other", "like"): 1}
    for (video, event_type), count in expected.items():
        assert (await reader.get_count(video, event_type, strong=True)).count == count
    assert (await reader.get_stats("video", "watched", "sum", strong=True)).value == 30.5 + 5 * 9.5

    async def is_flushed() -> bool:
        return (await reader.get_views_count("video")).count == 7

    await eventually(is_flushed)
    await assert_exact(dsn, expected)
    assert (await reader.audit()).discrepancy_events == 0


async def test_the_partition_map_gives_every_partition_to_one_shard(deployment: Deployment) -> None:
    found = await deployment.writer.partition_map()
    led = [partition for shard in found.shards for partition in shard.partitions]
    assert sorted(led) == list(range(found.partition_count))
    assert max(len(shard.partitions) for shard in found.shards) <= -(
        -found.partition_count // len(found.shards)
    )
