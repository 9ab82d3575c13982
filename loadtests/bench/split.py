"""Tally with every service in a process of its own: shards, a partitioner and a query process, on one Postgres."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg

from libs.embedded.postgres import open_postgres
from libs.embedded.process import read_tail
from libs.embedded.valkey import open_valkey
from libs.rpc import ports
from libs.stores.schema import migrate
from loadtests.bench.child import start_child
from loadtests.bench.contender import Store
from loadtests.bench.tally import Make, Tally, connect
from loadtests.stack import START_SECONDS
from services.migrations import list_migrations
from tally.client import Client, TallyError
from tally.contract.errors import NotReady

_PARTITION_COUNT = 16
_SERVICES = {
    "counting": "tally.counting.v1.CountingService",
    "partitioner": "tally.ingest.v1.IngestService",
    "query": "tally.query.v1.QueryService",
}


@asynccontextmanager
async def open_split(folder: Path, shard_count: int, make: Make = Tally) -> AsyncIterator[Store]:
    """Run the stores and so many shards, and connect to them."""
    async with (
        open_postgres(folder / "postgres") as dsn,
        open_valkey(folder / "valkey") as url,
    ):
        await _migrate(dsn)
        async with open_services(folder, shard_count, dsn, url, _PARTITION_COUNT, make) as store:
            yield store


@asynccontextmanager
async def open_services(
    folder: Path, shard_count: int, dsn: str, valkey_url: str, partition_count: int, make: Make
) -> AsyncIterator[Store]:
    """Run so many shards, one partitioner and one query process on migrated stores, and connect to them."""
    stores = {
        "TALLY_POSTGRES__DSN": dsn,
        "TALLY_VALKEY__URL": valkey_url,
        "TALLY_PARTITION_COUNT": str(partition_count),
    }
    async with AsyncExitStack() as stack:

        async def run(name: str, **settings: str) -> str:
            return await stack.enter_async_context(_run_service(name, folder, {**stores, **settings}))

        shards = [await run("counting") for _ in range(shard_count)]
        writing = await run("partitioner", TALLY_PARTITIONER__SHARDS=json.dumps(shards))
        reading = await run("query")
        yield await stack.enter_async_context(connect(writing, dsn, make, reading=reading))


async def _migrate(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await migrate(connection, _PARTITION_COUNT, list_migrations())
    finally:
        await connection.close()


@asynccontextmanager
async def _run_service(name: str, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[str]:
    address = f"127.0.0.1:{ports.find_free(1)[0]}"
    log = folder / f"{name}-{address.rpartition(':')[2]}.log"
    environment = {**settings, "TALLY_SERVER__ADDRESS": address}
    async with start_child("services", name, log=log, environment=environment) as child:
        await _wait_until_serving(child, address, name, log)
        yield address


async def _wait_until_serving(child: asyncio.subprocess.Process, address: str, name: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not await _is_serving(address, _SERVICES[name]):
        if child.returncode is not None or time.monotonic() > end:
            raise NotReady(f"{name} did not start. {read_tail(log)}")
        await asyncio.sleep(0.1)


async def _is_serving(address: str, service: str) -> bool:
    async with Client(address, timeout=1.0) as client:
        try:
            return await client.health(service) == "SERVING"
        except TallyError:
            return False
