"""A backfill of repositories while a round goes on, and the verdict on it.

The repositories are the simulated network's, so what the dataset and the counts must hold is known. Each round has
accounts of its own.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import asyncpg

from libs.dataset.parts import open_duckdb
from loadtests.simulators.network import Network, make_network
from tally.client import Client, TallyError
from tests.fault.table.patience import until_done
from tests.support.eventually import eventually
from tests.support.proof import shorten
from tests.support.reach import open_client
from tests.support.rollups import read_counts

ACCOUNTS, BATCH = 40, 5
_PAUSE_SECONDS = 0.1
_SETTLED_SECONDS = 90.0
_BEGUN_SECONDS = 40.0
_COUNTED_SECONDS = 45.0

_REPOS = "select did, state, delivery_id, record_count from backfill.repo where did = any($1)"
_PARTS = "select delivery_id, name from backfill.part where delivery_id = any($1)"
_ROWS = "select did, collection || '/' || rkey from read_parquet([$path])"

T = TypeVar("T")


@dataclass(slots=True)
class BackfillRun:
    """The job of a round."""

    name: str
    dsn: str
    client: Client
    network: Network
    """which serves the accounts of all rounds"""
    own: Network
    """the accounts of this round"""
    objects: Path
    """the folder of the object store"""
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def calls(self) -> int:
        """How often a repository of this round was asked for."""
        return sum(self.network.calls[did] for did in self.own.dids)

    async def start(self) -> None:
        """Let the network serve the accounts, and create the job."""
        self.network.dids = [*self.network.dids, *self.own.dids]
        self.network.world.records |= self.own.world.records
        create = partial(
            self.client.backfill.create_job, self.name, self.own.dids, batch_size=BATCH, timeout=10.0
        )
        await self._until_done(create)

    async def until_fetching(self, share: float) -> None:
        """Wait until this share of the repositories was asked for."""

        async def is_fetching() -> bool:
            return self.calls >= share * ACCOUNTS

        await eventually(is_fetching, _BEGUN_SECONDS)

    async def until_done(self, within_seconds: float) -> bool:
        """Whether every account is stored or given up within this time."""

        async def is_done() -> bool:
            try:
                return (await self.client.backfill.get_job(self.name, timeout=5.0)).done
            except TallyError as error:
                self.failures[error.reason] += 1
                return False

        try:
            await eventually(is_done, within_seconds)
        except AssertionError:
            return False
        return True

    async def check(self) -> list[str]:
        """Count the dataset, twice; every sentence is a thing that is wrong with it, or with the counts."""
        await self._until_counted()
        again = await self._until_done(self._count)
        wrong = [f"{again} events were counted again"] if again else []
        connection = await asyncpg.connect(self.dsn)
        try:
            return wrong + await self.check_rows(connection) + await self.check_counts(connection)
        finally:
            await connection.close()

    async def _until_counted(self) -> None:
        async with asyncio.timeout(_SETTLED_SECONDS):
            while await self._until_done(self._pending):  # noqa: ASYNC110 - shards have them, in other processes
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _pending(self) -> int:
        """Count; how many events still have no receipt."""
        buckets = [each async for each in self.client.backfill.count_dataset(timeout=60.0)]
        return sum(each.pending_count + each.unknown_count for each in buckets)

    async def _count(self) -> int:
        return sum([each.counted_count async for each in self.client.backfill.count_dataset(timeout=60.0)])

    async def check_rows(self, connection: asyncpg.Connection) -> list[str]:
        """Each record of the source is a row of the dataset once, and nothing else is."""
        repos = {row["did"]: row for row in await connection.fetch(_REPOS, list(self.own.dids))}
        delivery_of = {did: row["delivery_id"] for did, row in repos.items() if row["state"] == "stored"}
        parts = await connection.fetch(_PARTS, sorted(set(delivery_of.values())))
        found = await asyncio.to_thread(self._read_rows, delivery_of, parts)
        wrong = [
            f"{did} is {repos[did]['state'] if did in repos else 'unknown'}, and its host serves it"
            for did in self.own.dids
            if did not in delivery_of
        ]
        for did in delivery_of:
            expected = Counter(list(self.own.world.records[did]))
            if found[did] != expected:
                less, more = expected - found[did], found[did] - expected
                wrong.append(f"{did}: {less.total()} records are missing, {more.total()} are there too often")
            if repos[did]["record_count"] != expected.total():
                wrong.append(f"{did}: {repos[did]['record_count']} records are noted of {expected.total()}")
        return shorten(wrong)

    def _read_rows(self, delivery_of: dict[str, str], parts: list[asyncpg.Record]) -> dict[str, Counter[str]]:
        """The rows that count, by account: those in a part of the delivery that its row names."""
        found: dict[str, Counter[str]] = {did: Counter() for did in delivery_of}
        with open_duckdb() as duckdb:
            for part in parts:
                path = {"path": str(self.objects / part["name"])}
                for did, record in duckdb.execute(_ROWS, path).fetchall():
                    if delivery_of.get(did) == part["delivery_id"]:
                        found[did][record] += 1
        return found

    async def check_counts(self, connection: asyncpg.Connection) -> list[str]:
        """Every post with a video, like and repost counts once."""
        truth, counted, own = self.own.truth, Counter[tuple[str, str]](), set(self.own.dids)

        async def are_in_the_rollups() -> bool:
            found = (await read_counts(connection)).items()
            counted.clear()
            counted.update({key: n for key, n in found if own & set(key[0].split("/")[2:3])})
            return counted == truth

        try:
            await eventually(are_in_the_rollups, _COUNTED_SECONDS)
        except AssertionError:
            return shorten(
                f"{kind} of {video}: counted {counted[video, kind]}, the repositories have {truth[video, kind]}"
                for video, kind in sorted(counted.keys() | truth.keys())
                if counted[video, kind] != truth[video, kind]
            )
        return []

    async def _until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_done(work, _SETTLED_SECONDS, self.failures)


@asynccontextmanager
async def open_backfill(
    name: str, dsn: str, door: str, network: Network, objects: Path, chance: random.Random
) -> AsyncIterator[BackfillRun]:
    """A job whose repositories are being fetched."""
    async with open_client(door, timeout=10.0) as client:
        own = make_network(ACCOUNTS, seed=chance.randrange(10**9))
        run = BackfillRun(name, dsn, client, network, own, objects)
        await run.start()
        yield run
