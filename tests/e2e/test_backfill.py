"""A simulated host, the services, and a worker that is killed: every like counts once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from libs.egress.settings import EgressSettings
from libs.rpc.server import ServerSettings
from libs.stores.postgres import PostgresSettings
from loadtests.simulators.network import Fate, Network, make_network, open_network
from services.backfill.settings import BackfillSettings, DirectorySettings
from services.partitioner.settings import PartitionerSettings
from services.process.life import open_process
from services.scheduler.settings import SchedulerSettings
from services.settings import CallsSettings, ValkeySettings, read_settings
from tests.support.database import PARTITION_COUNT
from tests.support.eventually import eventually
from tests.support.processes import free_port
from tests.support.reach import channel_tls, open_client, server_settings
from tests.support.rollups import read_counts
from tests.support.terminal import finish, kill, run, start

COUNT = 200
SERVICES = ("counting", "query", "scheduler", "partitioner", "backfill")


def make_fates(dids: list[str]) -> dict[str, Fate]:
    fates = [fate for fate in Fate if fate is not Fate.SERVED]
    return {did: fates[number % len(fates)] for number, did in enumerate(dids)}


@asynccontextmanager
async def open_services(network: Network, dsn: str, valkey_url: str, folder: Path) -> AsyncIterator[str]:
    """All services but the worker, in this process; yields their address."""
    address = f"127.0.0.1:{free_port()}"
    settings = read_settings(
        data_dir=folder,
        partition_count=PARTITION_COUNT,
        server=ServerSettings(address=address, grace_seconds=1.0, **server_settings()),
        calls=CallsSettings(tls=channel_tls()),
        postgres=PostgresSettings(dsn=dsn),
        valkey=ValkeySettings(url=valkey_url),
        partitioner=PartitionerSettings(shards=(address,)),
        scheduler=SchedulerSettings(lease_seconds=2.0, poll_seconds=0.2),
        backfill=BackfillSettings(
            scheduler=(address,),
            partitioner=(address,),
            directory=DirectorySettings(url=network.directory_url, per_second=1_000),
            egress=EgressSettings(simulated=True),
            poll_seconds=0.1,
            retry_seconds=0.0,
        ),
    )
    async with open_process(settings, SERVICES):
        yield address


async def start_worker(
    name: str, address: str, dsn: str, valkey_url: str, folder: Path
) -> asyncio.subprocess.Process:
    return await start(
        *("backfill", "worker", "--worker-id", name, "--coordinator-host", address, "--simulated"),
        *("--rate-limit", "1000000"),
        TALLY_POSTGRES__DSN=dsn,
        TALLY_VALKEY__URL=valkey_url,
        TALLY_PARTITION_COUNT=str(PARTITION_COUNT),
        TALLY_DATA_DIR=str(folder),
        TALLY_SERVER__ADDRESS=f"127.0.0.1:{free_port()}",
        TALLY_WORKER__SLOTS_AT_ONCE="4",
        TALLY_WORKER__FETCH__LINGER_SECONDS="0.2",
        TALLY_WORKER__FETCH__PART_SECONDS="0.5",
    )


async def counts_of(dsn: str) -> Counter[tuple[str, str]]:
    """Every (video, event type) in the rollups."""
    connection = await asyncpg.connect(dsn)
    try:
        return Counter(await read_counts(connection))
    finally:
        await connection.close()


@pytest.mark.long
@pytest.mark.timeout(110)
async def test_a_killed_worker_changes_nothing_and_a_second_run_counts_nothing(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    """T002-05, T002-13, T002-25, T002-26, T002-27, T002-41, T002-43"""
    network = make_network(COUNT, delay_seconds=0.005)
    network.fates = make_fates(list(network.dids[::12]))
    dids = tmp_path / "dids.txt"
    dids.write_text("# accounts\n" + "\n".join(network.dids) + "\nnot a DID\n" + network.dids[0] + "\n")
    async with open_network(network), open_services(network, dsn, valkey_url, tmp_path) as address:
        worker = await start_worker("first", address, dsn, valkey_url, tmp_path)
        coordinator = await start(
            *("backfill", "coordinator", "--input-file", dids, "--job-id", "job", "--batch-size", "10"),
            address=address,
        )
        async with open_client(address, timeout=10.0) as client:

            async def is_midway() -> bool:
                stored = (await client.backfill.get_job("job")).stored_count if network.calls else 0
                return COUNT // 8 <= stored < COUNT // 2

            await eventually(is_midway, 40.0)
        await kill(worker)
        worker = await start_worker("second", address, dsn, valkey_url, tmp_path)
        done = await asyncio.wait_for(finish(coordinator), 60)
        assert done.exit_code == 0, done
        fetched = network.fetched
        assert f"done, {len(fetched)} stored" in done.out, done.out
        assert "line 202 has no DID" in done.err

        failures = await run("backfill", "failures", "job", "--json", address=address)
        reasons = {each["did"]: each["reason"] for each in map(json.loads, failures.out.splitlines())}
        assert reasons == {did: REASONS[fate] for did, fate in network.fates.items() if fate in REASONS}

        counted = await run("backfill", "count", "--json", address=address)
        assert counted.exit_code == 0, counted
        truth = network.truth
        assert json.loads(counted.out)["counted_count"] == truth.total()
        (hot, kind), count = truth.most_common(1)[0]
        got = await run("get", hot, "--type", kind, "--strong", address=address)
        assert got.out.startswith(f"{count} {kind} of {hot}"), got

        again = await run("backfill", "coordinator", "--input-file", dids, "--job-id", "job", address=address)
        assert again.out.startswith("resumed job: 200 accounts\njob: done"), again
        second = json.loads((await run("backfill", "count", "--json", address=address)).out)
        assert (second["counted_count"], second["total_count"]) == (0, truth.total())

        async def are_in_the_rollups() -> bool:
            return (await counts_of(dsn)).total() >= truth.total()

        await eventually(are_in_the_rollups, 10.0)
        assert await counts_of(dsn) == truth
        await kill(worker)
    assert network.window.refused == 0


REASONS = {
    Fate.TAKEN_DOWN: "RepoTakendown",
    Fate.DEACTIVATED: "RepoDeactivated",
    Fate.CHANGED: "block_changed",
    Fate.WRONG_KEY: "signature_invalid",
    Fate.ABSENT: "did_not_found",
}
