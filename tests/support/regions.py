"""Two regions in one process: the replication services of two clusters, each on a database of its own."""

import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from services.replication.settings import (
    ReceiverSettings,
    ReplicationSettings,
    SenderSettings,
    SnapshotSettings,
    StrategySettings,
)
from tally.replication.v1 import entries_pb2 as pb
from tally.replication.v1 import entries_pb2_grpc, peers_pb2_grpc, replication_pb2, replication_pb2_grpc
from tests.support.eventually import eventually
from tests.support.reach import open_channel
from tests.support.servers import fresh_database
from tests.support.stack import open_stack

TIMEOUT_S = 30
FAST = ReplicationSettings(
    sender=SenderSettings(poll_seconds=0.05, gather_seconds=0.0, idle_pass_seconds=0.2, batch_size=50),
    receiver=ReceiverSettings(retry_seconds=0.05, lease_seconds=1.0),
    strategy=StrategySettings(batch_from_rows=10, notify_from_rows=200),
    snapshot=SnapshotSettings(chunk_bytes=16 * 1024, fresh_seconds=0.0, lock_timeout_seconds=0.2),
)
"""Small batches and low thresholds, so that a few hundred rows take every way."""

_OWN = """
select uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version
from replication.entry order by uuid"""
_RECEIVED = """
select uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version
from replication.received_entry where device = $1 order by uuid"""
_OWN_LOCATIONS = """
select uuid, kind, origin, entry_count, indexed_at, version from replication.location order by uuid"""
_RECEIVED_LOCATIONS = """
select uuid, kind, origin, entry_count, indexed_at, version from replication.received_location
where device = $1 order by uuid"""


@dataclass(slots=True)
class RegionUnderTest:
    """A region's services, as generated stubs call them, and a look into its database."""

    device: uuid.UUID
    address: str
    dsn: str
    database: Any
    entries: Any
    peers: Any
    operators: Any

    async def index(
        self,
        location: str,
        entries: Sequence[pb.Entry],
        *,
        complete: bool = True,
        strategy: "pb.Strategy | None" = None,
    ) -> Any:
        """A bulk commit."""

        async def requests() -> AsyncIterator[pb.CommitBulkEntriesRequest]:
            commit = pb.BulkCommit(location_id=location, complete=complete, force_strategy=strategy)
            yield pb.CommitBulkEntriesRequest(commit=commit)
            for start in range(0, len(entries), 1000):
                yield pb.CommitBulkEntriesRequest(entries=entries[start : start + 1000])

        return await self.entries.CommitBulkEntries(requests(), timeout=TIMEOUT_S)

    async def put_location(self, location: str = "", origin: str = "made") -> str:
        answer = await self.entries.PutLocation(
            pb.PutLocationRequest(location_id=location, kind="folder", origin=origin), timeout=TIMEOUT_S
        )
        return str(answer.location.location_id)

    async def own_rows(self) -> tuple[list[Any], list[Any]]:
        return await self.database.fetch(_OWN), await self.database.fetch(_OWN_LOCATIONS)

    async def received_rows(self, device: uuid.UUID) -> tuple[list[Any], list[Any]]:
        return (
            await self.database.fetch(_RECEIVED, device),
            await self.database.fetch(_RECEIVED_LOCATIONS, device),
        )

    async def follow(self, other: "RegionUnderTest") -> None:
        request = replication_pb2.PutPeerRequest(address=other.address)
        await self.operators.PutPeer(request, timeout=TIMEOUT_S)

    async def region(self, device: uuid.UUID) -> Any:
        answer = await self.operators.ListPeers(replication_pb2.ListPeersRequest(), timeout=TIMEOUT_S)
        (found,) = [each for each in answer.regions if each.device_id == str(device)]
        return found

    async def verify(self, other: "RegionUnderTest") -> Any:
        request = replication_pb2.VerifyRequest(device_id=str(other.device))
        return (await self.operators.Verify(request, timeout=TIMEOUT_S)).locations

    async def verdict_of(self, other: "RegionUnderTest", location: str) -> Any:
        (verdict,) = [each for each in await self.verify(other) if each.location_id == location]
        return verdict


@dataclass(slots=True)
class Pair:
    """An owner and a receiver that know each other."""

    owner: RegionUnderTest
    receiver: RegionUnderTest

    async def until_watermark(self) -> None:
        """The receiver has loaded the first snapshot."""

        async def has_watermark() -> bool:
            query = "select exists (select from replication.watermark where device = $1)"
            return bool(await self.receiver.database.fetchval(query, self.owner.device))

        await eventually(has_watermark)

    async def until_equal(self, within_seconds: float = 20.0) -> None:
        """Every row of the owner, and no other, is at the receiver."""

        async def is_equal() -> bool:
            return await self.owner.own_rows() == await self.receiver.received_rows(self.owner.device)

        await eventually(is_equal, within_seconds)

    def make_entries(self, count: int, seed: int = 0) -> list[pb.Entry]:
        return make_entries(count, seed)


def make_entries(count: int, seed: int = 0) -> list[pb.Entry]:
    """So many files; the same seed makes the same."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        entry = pb.Entry(
            entry_id=str(uuid.UUID(int=chance.getrandbits(128))),
            kind="file",
            name=f"file {number} é",
            size_bytes=chance.randrange(10**9),
            fingerprint=chance.randbytes(8),
        )
        entry.modified_at.FromMicroseconds(1_700_000_000_000_000 + chance.randrange(10**12))
        found.append(entry)
    return found


@asynccontextmanager
async def open_region(
    dsn: str,
    valkey_url: str,
    folder: Path,
    settings: ReplicationSettings = FAST,
    overrides: Mapping[str, Any] | None = None,
) -> AsyncIterator[RegionUnderTest]:
    """The replication service of one region, in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"replication": settings, **(overrides or {})}
    async with (
        open_stack(dsn, valkey_url, folder, names=("replication",), overrides=values) as stack,
        open_channel(stack.address) as channel,
    ):
        database = await asyncpg.connect(dsn)
        try:
            device = await database.fetchval("select cluster_id from public.cluster")
            entries: Any = entries_pb2_grpc.EntryServiceStub(channel)
            peers: Any = peers_pb2_grpc.PeerServiceStub(channel)
            operators: Any = replication_pb2_grpc.ReplicationServiceStub(channel)
            yield RegionUnderTest(device, stack.address, dsn, database, entries, peers, operators)
        finally:
            await database.close()


@asynccontextmanager
async def region_database(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """A migrated database with a cluster id of its own; those of a template are alike."""
    async with fresh_database(postgres_dsn, template) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("update public.cluster set cluster_id = gen_random_uuid()")
        finally:
            await connection.close()
        yield dsn


@asynccontextmanager
async def open_pair(
    postgres_dsn: str,
    template: str,
    valkey_url: str,
    folder: Path,
    settings: ReplicationSettings = FAST,
) -> AsyncIterator[Pair]:
    """Two regions that know each other."""
    async with (
        region_database(postgres_dsn, template) as first,
        region_database(postgres_dsn, template) as second,
        open_region(first, valkey_url, folder / "owner", settings) as owner,
        open_region(second, valkey_url, folder / "receiver", settings) as receiver,
    ):
        await owner.follow(receiver)
        await receiver.follow(owner)
        pair = Pair(owner, receiver)
        await pair.until_watermark()
        yield pair
