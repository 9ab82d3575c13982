"""Two regions whose processes and servers are killed in the middle of each strategy."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from libs.embedded.postgres import EmbeddedPostgresSettings
from tally.replication.v1 import entries_pb2 as pb
from tally.replication.v1 import entries_pb2_grpc, peers_pb2_grpc, replication_pb2_grpc
from tests.support.database import make_template
from tests.support.eventually import eventually
from tests.support.processes import ServiceProcess, run_service
from tests.support.regions import Pair, RegionUnderTest, make_entries
from tests.support.servers import Breakable, Servers, breakable_postgres

pytestmark = [pytest.mark.long, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

BATCH, WINDOW, ROWS = 10, 8, 400
SNAPSHOT_ROWS, CHUNK_BYTES = 6_000, 4096
ENVIRONMENT = {
    "TALLY_REPLICATION__SENDER__BATCH_SIZE": str(BATCH),
    "TALLY_REPLICATION__SENDER__PAUSE_SECONDS": "0.02",
    "TALLY_REPLICATION__SENDER__POLL_SECONDS": "0.1",
    "TALLY_REPLICATION__RECEIVER__WINDOW_FRAMES": str(WINDOW),
    "TALLY_REPLICATION__RECEIVER__RETRY_SECONDS": "0.2",
    "TALLY_REPLICATION__RECEIVER__LEASE_SECONDS": "1",
    "TALLY_REPLICATION__SNAPSHOT__CHUNK_BYTES": str(CHUNK_BYTES),
    "TALLY_REPLICATION__SNAPSHOT__FRESH_SECONDS": "0",
}
_SMALL = EmbeddedPostgresSettings(shared_buffers_mb=32, max_connections=60)
_HERE = "select count(*) from replication.received_entry where location = $1"
_CHUNKS = """
select count(*) from replication.snapshot_chunk
where export = (select id from replication.snapshot_export order by made_at desc limit 1)"""
_AGAIN = "select coalesce(sum(rows_again), 0)::int8 from replication.transfer"


@dataclass(slots=True)
class BreakableRegion:
    """A region that is killed, and started again where it was."""

    postgres: Breakable
    valkey_url: str
    folder: Path
    running: AsyncExitStack = field(default_factory=AsyncExitStack)
    process: ServiceProcess | None = None
    address: str = ""

    async def start(self) -> None:
        await self.running.aclose()
        self.process = await self.running.enter_async_context(
            run_service(
                "replication",
                self.postgres.url,
                self.valkey_url,
                self.folder,
                address=self.address,
                env=ENVIRONMENT,
            )
        )
        self.address = self.process.address

    async def kill_service(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.start()

    async def kill_postgres(self) -> None:
        self.postgres.kill()
        await self.postgres.start()

    async def ask(self, query: str, *arguments: Any) -> Any:
        """One value, by a connection of its own: those of before may have died with the server."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()


@dataclass(slots=True)
class Regions:
    owner: BreakableRegion
    receiver: BreakableRegion

    async def opened(self, stack: AsyncExitStack) -> Pair:
        """Stubs and connections of now."""
        found = []
        for each in (self.owner, self.receiver):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(each.address))
            database = await asyncpg.connect(each.postgres.url)
            stack.push_async_callback(database.close)
            device = await database.fetchval("select cluster_id from cluster")
            entries: Any = entries_pb2_grpc.EntryServiceStub(channel)
            peers: Any = peers_pb2_grpc.PeerServiceStub(channel)
            operators: Any = replication_pb2_grpc.ReplicationServiceStub(channel)
            found.append(
                RegionUnderTest(device, each.address, each.postgres.url, database, entries, peers, operators)
            )
        return Pair(*found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def regions(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Regions]:
    async with AsyncExitStack() as stack:
        made = []
        for name in ("owner", "receiver"):
            postgres = await stack.enter_async_context(breakable_postgres(_SMALL))
            await make_template(postgres.url)
            region = BreakableRegion(postgres, servers.valkey_url, tmp_path_factory.mktemp(name))
            stack.push_async_callback(region.running.aclose)
            await region.start()
            made.append(region)
        both = Regions(*made)
        async with AsyncExitStack() as calls:
            pair = await both.opened(calls)
            await pair.owner.follow(pair.receiver)
            await pair.receiver.follow(pair.owner)
            await pair.until_watermark()
        yield both


async def until_part_is_here(regions: Regions, location: str, strategy: "pb.Strategy", share: float) -> None:
    """Until so much of a transfer has arrived. It must not be all of it."""
    folder = regions.receiver.folder / "replication"

    async def is_part_here() -> bool:
        if strategy == pb.STRATEGY_SNAPSHOT:
            sizes = [file.stat().st_size for file in folder.glob("import-*.sqlite")]
            return bool(sizes) and max(sizes) >= share * await regions.owner.ask(_CHUNKS) * CHUNK_BYTES
        here: int = await regions.receiver.ask(_HERE, location)
        assert here < ROWS, "everything had arrived before the kill"
        return here >= share * ROWS

    await eventually(is_part_here, 30.0)


STRATEGIES = {
    "change": pb.STRATEGY_CHANGE,
    "batch": pb.STRATEGY_BATCH,
    "notify": pb.STRATEGY_NOTIFY,
    "snapshot": pb.STRATEGY_SNAPSHOT,
}
VICTIMS = [(end, what) for end in ("owner", "receiver") for what in ("service", "postgres")]
SHARES = (0.1, 0.5, 0.9)
# Each victim with each strategy; and each share with each of the victims, and with each of the strategies.
CASES = [
    pytest.param(*victim, strategy, SHARES[(n + m) % 3], id=f"{victim[0]}-{victim[1]}-{name}")
    for n, victim in enumerate(VICTIMS)
    for m, (name, strategy) in enumerate(STRATEGIES.items())
]


@pytest.mark.parametrize(("end", "what", "strategy", "share"), CASES)
async def test_a_kill_in_the_middle_of_a_strategy_loses_nothing_and_sends_a_window_again_at_most(
    regions: Regions, end: str, what: str, strategy: "pb.Strategy", share: float
) -> None:
    rows = SNAPSHOT_ROWS if strategy == pb.STRATEGY_SNAPSHOT else ROWS
    again = await regions.receiver.ask(_AGAIN)
    async with AsyncExitStack() as calls:
        pair = await regions.opened(calls)
        location = await pair.owner.put_location()
        entries = make_entries(rows, seed=10 * VICTIMS.index((end, what)) + strategy)
        await pair.owner.index(location, entries, strategy=strategy)
        await until_part_is_here(regions, location, strategy, share)
    killed = getattr(regions, end)
    await (killed.kill_service() if what == "service" else killed.kill_postgres())
    async with AsyncExitStack() as calls:
        pair = await regions.opened(calls)
        await pair.until_equal(60.0)
        await pair.owner.entries.DeleteLocation(pb.DeleteLocationRequest(location_id=location), timeout=30)
        await pair.until_equal(30.0)
    sent_again = await regions.receiver.ask(_AGAIN) - again
    assert sent_again <= WINDOW * BATCH, f"{sent_again} rows were sent again"
