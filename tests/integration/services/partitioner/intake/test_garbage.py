"""Shards that answer with garbage, each in its own way, beside one that is well."""

import asyncio
from contextlib import AsyncExitStack

from services.partitioner.settings import PartitionerSettings
from tests.support.eventually import eventually
from tests.support.garbage import ANSWERS, open_garbage_shard
from tests.support.proof import assert_exact
from tests.support.stack import OpenService

REQUESTS = 120


async def test_requests_go_on_to_the_next_shard_and_count_once(open_service: OpenService, dsn: str) -> None:
    async with AsyncExitStack() as stack:
        well = await stack.enter_async_context(open_service("counting"))
        shards = [
            await stack.enter_async_context(open_garbage_shard(answer, well.address)) for answer in ANSWERS
        ]
        settings = PartitionerSettings(shards=(*shards, well.address))
        partitioner = await stack.enter_async_context(open_service("partitioner", settings))

        async def knows_all() -> bool:
            return len((await partitioner.client.partition_map()).shards) == len(settings.shards)

        await eventually(knows_all)
        await asyncio.gather(*(partitioner.client.count(f"video {n}") for n in range(REQUESTS)))
        assert await knows_all()  # a shard that answers its probes is live, whatever else it answers
        await assert_exact(dsn, {(f"video {n}", "view"): 1 for n in range(REQUESTS)})
