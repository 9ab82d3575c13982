"""A snapshot that is not as expected is refused whole, and an import that breaks leaves one state or the other."""

import hashlib
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.replication.lane import Held, take_lane
from services.replication.rows import EntryRow
from services.replication.settings import ReceiverSettings, ReplicationSettings, SnapshotSettings
from services.replication.snapshot_import import SnapshotImporter
from tally.contract.errors import DataLoss, StaleFrame, StaleSnapshot
from tally.replication.v1 import peers_pb2 as pb
from tests.support.lanes import LaneUnderTest, Meter, Stub
from tests.support.regions import region_database
from tests.support.servers import Servers

SETTINGS = ReplicationSettings(
    snapshot=SnapshotSettings(chunk_bytes=4096, fresh_seconds=0.0, lock_timeout_seconds=0.2),
    receiver=ReceiverSettings(retry_seconds=0.01),
)
LOCATION = uuid.UUID(int=5 << 64)
HOLDER = uuid.UUID(int=3)
State = tuple[dict[uuid.UUID, tuple[Any, ...]], str, int]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lane(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LaneUnderTest]:
    """A receiver that has an older state than the owner."""
    folder = tmp_path_factory.mktemp("lane")
    async with (
        region_database(servers.postgres_dsn, template) as owner,
        region_database(servers.postgres_dsn, template) as receiver,
        LaneUnderTest(owner, receiver, folder, SETTINGS) as opened,
    ):
        await put(opened, "old", range(60))
        await opened.stream()
        await put(opened, "new", range(20, 90))
        yield opened


async def put(lane: LaneUnderTest, name: str, numbers: range) -> None:
    entries = [
        EntryRow(uuid.UUID(int=LOCATION.int + 1 + n), LOCATION, None, "file", name, n, 0, b"", "", 0)
        for n in numbers
    ]
    await lane.transactions.put_location(LOCATION, "folder", "made")
    await lane.transactions.put_entries(LOCATION, entries)


async def state_of(lane: LaneUnderTest) -> State:
    """What readers see, and how far it is."""
    _, here = await lane.rows()
    watermark = await lane.receiver.fetchval("select snapshot::text from replication.watermark")
    locations = await lane.receiver.fetchval("select count(*) from replication.received_location")
    return here, watermark, locations


async def take(lane: LaneUnderTest) -> Held:
    await lane.receiver.execute("update replication.lane set lease_until = '-infinity'")
    taken = await take_lane(lane.receiver, lane.device, HOLDER, 30.0)
    assert taken is not None
    return taken[0]


def stub_of(lane: LaneUnderTest) -> Stub:
    return Stub(lane.sync, lane._servicer, None, None, Meter())


async def fetch(lane: LaneUnderTest, folder: Path) -> tuple[Path, pb.ExportDeviceStateResponse]:
    """A sound file and its manifest."""
    stub = stub_of(lane)
    request = pb.ExportDeviceStateRequest(device_id=str(lane.device), peer_device_id=str(lane.peer))
    manifest = await stub.ExportDeviceState(request, 10)
    path = folder / "snapshot.sqlite"
    importer = SnapshotImporter(lane.receiver, SETTINGS, lane.peer, folder)
    await importer._fetch(stub, manifest, path, uuid.uuid4())
    return path, manifest


def run_sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    return change


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (truncate, "cannot be read|type|rows"),
        (run_sql("delete from entry where size_bytes = 40"), "manifest"),
        (run_sql("update entry set name = 'another' where size_bytes = 40"), "manifest"),
        (run_sql("delete from location"), "manifest"),
        (run_sql("update entry set size_bytes = 'text' where size_bytes = 40"), "wrong type"),
        (run_sql("create trigger t after insert on entry begin select 1; end"), "triggers"),
        (run_sql("create view v as select * from entry"), "views"),
        (run_sql("create table more (a)"), "tables"),
        (run_sql("alter table entry add column more text"), "columns"),
        (run_sql("drop table manifest"), "tables"),
    ],
)
async def test_a_snapshot_that_is_not_as_expected_is_refused_whole_and_the_old_state_stays(
    lane: LaneUnderTest, tmp_path: Path, change: Callable[[Path], None], cause: str
) -> None:
    """T003-18."""
    before = await state_of(lane)
    path, manifest = await fetch(lane, tmp_path)
    change(path)
    manifest.file_sha256 = hashlib.sha256(path.read_bytes()).digest()
    importer = SnapshotImporter(lane.receiver, SETTINGS, lane.peer, tmp_path)
    with pytest.raises(StaleSnapshot, match=cause):
        await importer.import_database_snapshot(path, manifest, await take(lane))
    assert await state_of(lane) == before


@pytest.mark.asyncio(loop_scope="module")
async def test_a_file_with_another_hash_than_its_manifest_is_not_imported_and_fetched_again(
    lane: LaneUnderTest, tmp_path: Path
) -> None:
    before = await state_of(lane)
    path, manifest = await fetch(lane, tmp_path)
    truncate(path)
    importer = SnapshotImporter(lane.receiver, SETTINGS, lane.peer, tmp_path)
    with pytest.raises(DataLoss):
        await importer.import_database_snapshot(path, manifest, await take(lane))
    assert not path.exists()
    assert await state_of(lane) == before


@pytest.mark.asyncio(loop_scope="module")
async def test_an_import_whose_lane_was_taken_meanwhile_shows_nothing(
    lane: LaneUnderTest, tmp_path: Path
) -> None:
    """T003-51."""
    before = await state_of(lane)
    path, manifest = await fetch(lane, tmp_path)
    held = await take(lane)
    await take(lane)
    importer = SnapshotImporter(lane.receiver, SETTINGS, lane.peer, tmp_path)
    with pytest.raises(StaleFrame):
        await importer.import_database_snapshot(path, manifest, held)
    assert await state_of(lane) == before


class Broken(OSError):
    """The process is gone."""


class Breaking:
    """A pool, or a connection of one, that is gone after so many statements."""

    def __init__(self, target: Any, left: list[int], connection: Any = None) -> None:
        self._target = target
        self._left = left
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in ("execute", "executemany", "fetch", "fetchrow", "fetchval", "copy_records_to_table"):
            return found

        async def counted(*arguments: Any, **options: Any) -> Any:
            answer = await found(*arguments, **options)
            self._left[0] -= 1
            if self._left[0] < 0:
                if self._connection is not None:
                    self._connection.terminate()
                raise Broken
            return answer

        return counted

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["Breaking"]:
        async with self._target.acquire() as connection:
            yield Breaking(connection, self._left, connection)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_import_that_breaks_at_any_statement_leaves_the_old_state_or_the_new_one(
    lane: LaneUnderTest, tmp_path: Path
) -> None:
    """T003-12, T003-13."""
    old = await state_of(lane)
    there, _ = await lane.rows()
    path, manifest = await fetch(lane, tmp_path)
    new = (there, manifest.watermark, 1)
    assert old[0] != there
    statements, is_done = 0, False
    while not is_done:
        importer = SnapshotImporter(Breaking(lane.receiver, [statements]), SETTINGS, lane.peer, tmp_path)
        held = await take(lane)
        try:
            await importer.import_database_snapshot(path, manifest, held)
            is_done = True
        except (Broken, asyncpg.InterfaceError):  # the latter from the end of the transaction
            assert await state_of(lane) == old
        statements += 1
    assert await state_of(lane) == new
    assert statements > 20
    leftovers = await lane.receiver.fetchval(
        "select count(*) from pg_class where relname like 'received\\_%' and relkind = 'r' and not relispartition "
        "and relname not in ('received_location', 'received_rollup')"
    )
    assert leftovers == 0
