"""Services that take writes start while Postgres is unreachable, with the cluster of their last start."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from libs.runtime.background import Background, LoopDied
from libs.stores.known_cluster import FILE, keep_cluster, load_cluster
from libs.stores.schema import Cluster, read_identity
from services.process.life import open_process
from services.settings import Settings, read_settings
from tally.client import Client, Durability
from tally.contract.errors import NotReady, PartitionCountMismatch
from tests.support.database import PARTITION_COUNT
from tests.support.processes import run_service, stop
from tests.support.proof import assert_exact, open_proof
from tests.support.proxy import Proxy, open_proxy
from tests.support.servers import breakable_postgres

pytestmark = pytest.mark.exact

WRITERS = ("counting", "partitioner")


def settings_of(dsn: str, valkey_url: str, folder: Path, **others: Any) -> Settings:
    values: dict[str, Any] = {
        "data_dir": folder,
        "partition_count": PARTITION_COUNT,
        "server": {"address": "127.0.0.1:0", "grace_seconds": 1.0},
        "postgres": {"dsn": dsn},
        "valkey": {"url": valkey_url},
        "partitioner": {"shards": ("127.0.0.1:1",)},
        "counting": {"shard": "shard"},
    }
    return read_settings(**values | others)


@asynccontextmanager
async def starting(settings: Settings, name: str) -> AsyncIterator[Background]:
    """The loops of a service that has been opened; a partitioner is not waited for until it has met a shard."""
    async with open_process(settings, (name,)) as (_, background):
        yield background


async def identity_of(dsn: str) -> Cluster:
    async with open_proof(dsn) as connection:
        return await read_identity(connection)


async def test_a_restart_while_postgres_is_away_spools_and_counts_once(
    valkey_url: str, tmp_path: Path
) -> None:
    async with breakable_postgres(is_migrated=True) as postgres:
        env = {"TALLY_COUNTING__SHARD": "shard"}
        async with run_service("counting", postgres.url, valkey_url, tmp_path, env=env) as shard:
            at = shard.address
            async with run_service("partitioner", postgres.url, valkey_url, tmp_path, shards=[at]) as first:
                async with Client(first.address, timeout=20.0) as client:
                    before = await client.count("video")
                await stop(first)
            await stop(shard)
        postgres.kill()
        async with (
            run_service("counting", postgres.url, valkey_url, tmp_path, address=at, env=env) as shard,
            run_service("partitioner", postgres.url, valkey_url, tmp_path, shards=[at]) as second,
            Client(second.address, timeout=20.0) as client,
        ):
            receipt = await client.count("video")
            assert receipt.durability is Durability.SPOOLED
            again = await client.count("video", request_id=before.request_id)
            assert again.durability is Durability.SPOOLED  # nobody can tell now that it was counted
            await postgres.start()
            await assert_exact(postgres.url, {("video", "view"): 2})
            assert (await client.count("video")).durability is Durability.JOURNALED
            await assert_exact(postgres.url, {("video", "view"): 3})


@pytest.mark.parametrize("name", WRITERS)
async def test_a_first_start_needs_postgres_and_says_so(name: str, valkey_url: str, tmp_path: Path) -> None:
    settings = settings_of("postgresql://127.0.0.1:1/nowhere", valkey_url, tmp_path)
    with pytest.raises(
        NotReady, match=r"cannot reach Postgres: .*only a service that has run before can start"
    ):
        async with starting(settings, name):
            pass


async def test_a_query_service_needs_postgres(dsn: str, valkey_url: str, tmp_path: Path) -> None:
    keep_cluster(tmp_path, await identity_of(dsn), 0)
    settings = settings_of("postgresql://127.0.0.1:1/nowhere", valkey_url, tmp_path)
    with pytest.raises(NotReady, match="cannot reach Postgres"):
        async with starting(settings, "query"):
            pass


async def end_of(settings: Settings, proxy: Proxy) -> str:
    """What a shard that starts without Postgres says when it is back."""
    proxy.shut()
    async with starting(settings, "counting") as background:
        proxy.reopen()
        async with asyncio.timeout(20):
            with pytest.raises(LoopDied) as died:
                await background.watch()
    return str(died.value)


async def test_a_shard_that_comes_to_another_cluster_ends_and_writes_nothing(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    other = Cluster(uuid.uuid4(), PARTITION_COUNT, 1)
    keep_cluster(tmp_path, other, 0)
    async with open_proxy(dsn) as proxy:
        told = await end_of(settings_of(proxy.dsn, valkey_url, tmp_path), proxy)
    here = await identity_of(dsn)
    assert f"belongs to cluster {other.cluster_id}" in told
    assert f"leads to cluster {here.cluster_id}" in told
    assert load_cluster(tmp_path) == other
    async with open_proof(dsn) as connection:
        assert await connection.fetchval("select count(*) from counting.log") == 0


async def test_a_shard_that_comes_to_a_restored_cluster_ends(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    here = await identity_of(dsn)
    keep_cluster(tmp_path, here, 0)
    async with open_proof(dsn) as connection:
        await connection.execute("update public.cluster set epoch = 2")
    async with open_proxy(dsn) as proxy:
        told = await end_of(settings_of(proxy.dsn, valkey_url, tmp_path), proxy)
    assert "restored while this process served it (epoch 1, now 2). Start it again" in told


async def test_another_partition_count_is_refused_without_postgres_too(
    valkey_url: str, tmp_path: Path
) -> None:
    keep_cluster(tmp_path, Cluster(uuid.uuid4(), 2 * PARTITION_COUNT, 1), 0)
    settings = settings_of("postgresql://127.0.0.1:1/nowhere", valkey_url, tmp_path)
    with pytest.raises(PartitionCountMismatch, match=f"created with {2 * PARTITION_COUNT}"):
        async with starting(settings, "counting"):
            pass


async def test_a_start_with_postgres_takes_the_cluster_from_there(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    keep_cluster(tmp_path, Cluster(uuid.uuid4(), PARTITION_COUNT, 1), 0)
    async with starting(settings_of(dsn, valkey_url, tmp_path), "counting"):
        assert load_cluster(tmp_path) == await identity_of(dsn)


async def test_a_folder_that_cannot_be_written_keeps_nobody_from_starting(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    spool = {"shard": "shard", "spool": {"folder": tmp_path / "spool"}}
    settings = settings_of(dsn, valkey_url, tmp_path / "file" / "data", counting=spool)
    async with starting(settings, "counting") as background:
        assert background.is_alive


def test_what_was_kept_is_loaded(tmp_path: Path) -> None:
    cluster = Cluster(uuid.uuid4(), 16, 3)
    assert load_cluster(tmp_path / "new") is None
    keep_cluster(tmp_path / "new", Cluster(uuid.uuid4(), 16, 1), 1)
    keep_cluster(tmp_path / "new", cluster, time.time_ns() // 1000)
    assert load_cluster(tmp_path / "new") == cluster
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cluster_id": "x"}', "\x00"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(NotReady, match="cannot be read"):
        load_cluster(tmp_path)


def test_a_machine_whose_clock_is_before_the_last_start_does_not_go_by_it(tmp_path: Path) -> None:
    keep_cluster(tmp_path, Cluster(uuid.uuid4(), 16, 1), 1_800_000_000_000_000)
    assert load_cluster(tmp_path, lambda: 1_800_000_000.0)
    with pytest.raises(NotReady, match="clock is wrong: it is 10 s before"):
        load_cluster(tmp_path, lambda: 1_799_999_990.0)
