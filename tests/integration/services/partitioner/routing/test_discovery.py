"""A partitioner that starts before its shards, which it knows by a name alone."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from libs.rpc.server import ServerSettings
from libs.stores.postgres import PostgresSettings
from services.partitioner.settings import PartitionerSettings
from services.process.life import open_process
from services.settings import Settings, ValkeySettings, read_settings
from tally.client import Client, TallyError
from tests.support.database import PARTITION_COUNT
from tests.support.eventually import eventually
from tests.support.processes import free_port
from tests.support.proof import assert_exact

_INGEST = "tally.ingest.v1.IngestService"


async def test_a_partitioner_is_ready_once_a_shard_serves_and_stays_so(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    ports = {name: free_port() for name in ("partitioner", "counting")}

    def settings_of(name: str) -> Settings:
        return read_settings(
            data_dir=tmp_path,
            partition_count=PARTITION_COUNT,
            server=ServerSettings(address=f"127.0.0.1:{ports[name]}", grace_seconds=1.0),
            postgres=PostgresSettings(dsn=dsn),
            valkey=ValkeySettings(url=valkey_url),
            partitioner=PartitionerSettings(shards=(f"dns:///localhost:{ports['counting']}",)),
        )

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(f"127.0.0.1:{ports['partitioner']}", timeout=20.0))

        async def serves() -> bool:
            return await health() == "SERVING"

        async def is_unready() -> bool:
            return await health() == "NOT_SERVING"

        async def health() -> str:
            try:
                return await client.health(_INGEST, timeout=5.0)
            except TallyError as error:
                return error.message

        opening = asyncio.create_task(
            stack.enter_async_context(open_process(settings_of("partitioner"), ["partitioner"]))
        )
        await eventually(is_unready)
        async with open_process(settings_of("counting"), ["counting"]):
            await opening
            await eventually(serves)
            await client.count("video")
            found = await client.partition_map()
            assert [shard.address for shard in found.shards] == [f"127.0.0.1:{ports['counting']}"]
        # The shard is gone for a while. Who calls now waits for it, and does not fail.
        waiting = asyncio.create_task(client.count("video"))
        assert await serves()
        async with open_process(settings_of("counting"), ["counting"]):
            await waiting
            await assert_exact(dsn, {("video", "view"): 2})
