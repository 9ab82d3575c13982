"""Import of a snapshot: chunks to a file, rows to a table beside, and one short transaction that makes them visible.

The importer has begun a new stream of the lane before it asks for the snapshot, so nothing else can be applied
meanwhile. A crash at any point leaves the old state or the new one; chunks that are on the disk are not fetched again.
"""

import asyncio
import hashlib
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import structlog

from services.replication import progress
from services.replication.hashing import COLUMNS_HASH, sums_of
from services.replication.lane import Held, hold_lane, restart_lane
from services.replication.rows import MODEL, EntryRow, LocationRow, to_time
from services.replication.settings import ReplicationSettings
from services.replication.snapshot_file import open_snapshot
from services.replication.wire import read_sums, unpack
from tally.contract.errors import DataLoss, PeerMismatch, StaleSnapshot
from tally.contract.status import error_from_rpc
from tally.replication.v1 import peers_pb2 as pb

_LOGGER = structlog.get_logger(__name__)

_CALL_SECONDS = 600.0
_LEFTOVERS = """
select relname from pg_class
where relnamespace = 'replication'::regnamespace and relkind = 'r' and relname like $1 and not relispartition"""
_CREATE = "create table replication.{name} (like replication.received_entry including defaults)"
_INDEX = """
alter table replication.{name}
    add primary key (device, uuid), add check (device = '{device}');
create index on replication.{name} (device, location, uuid);
analyze replication.{name}"""
_SUMS = """
select count(*) as rows, coalesce(sum(replication.upper_half(hash)), 0) as high,
    coalesce(sum(replication.lower_half(hash)), 0) as low
from (
    select replication.entry_hash(uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details)
        as hash
    from replication.{name}
) as hashed"""
_LOCK_TIMEOUT = "set local lock_timeout = {milliseconds}"
_PARTITION = "select partition from replication.region where device = $1 for update"
_DETACH = "alter table replication.received_entry detach partition replication.{name}"
_ATTACH = (
    "alter table replication.received_entry attach partition replication.{name} for values in ('{device}')"
)
_DROP = "drop table replication.{name}"
_SET_PARTITION = "update replication.region set partition = $2, epoch = $3 where device = $1"
_CLEAR_LOCATIONS = "delete from replication.received_location where device = $1"
_PUT_LOCATION = """
insert into replication.received_location (device, uuid, kind, origin, entry_count, indexed_at, epoch, version)
values ($1, $2, $3, $4, $5, $6, $7, $8)"""
_CLEAR_STATES = "delete from replication.peer_state where device = $1"
_CANCEL_LOADS = """
update replication.transfer set phase = 'done', updated_at = now()
where device = $1 and strategy = 'notify' and phase in ('queued', 'loading')"""
_SET_WATERMARK = """
insert into replication.watermark (device, model, epoch, snapshot, word, as_of)
values ($1, $2, $3, $4::text::pg_snapshot, $5, $6)
on conflict (device, model) do update set
    epoch = excluded.epoch, snapshot = excluded.snapshot, word = excluded.word, as_of = excluded.as_of,
    target = null, target_as_of = null, cursor_changed = null, cursor_location = null, cursor_key = null,
    received_rows = 0, received_high = 0, received_low = 0"""
_COVERS = "select replication.covers($1::text::pg_snapshot, $2::text::pg_snapshot)"
_COLUMNS = (
    "device", "uuid", "location", "parent", "kind", "name", "size_bytes", "modified_at", "fingerprint", "details",
    "epoch", "version",
)  # fmt: skip


class SnapshotImporter:
    """Loads a device as a snapshot, for the lane that this replica holds."""

    def __init__(self, pool: Any, settings: ReplicationSettings, own: uuid.UUID, folder: Path) -> None:
        """`pool`: for long statements. `folder`: for the file."""
        self._pool = pool
        self._settings = settings
        self._own = own
        self._folder = folder

    async def load(self, stub: Any, held: Held, not_before: str) -> int:
        """Fetch and import a snapshot that is no older than `not_before`; how many chunks had to be fetched.

        Raises StaleSnapshot, StaleFrame, DataLoss, and what the owner refuses with.
        """
        try:
            manifest = await stub.ExportDeviceState(
                pb.ExportDeviceStateRequest(
                    device_id=str(held.device),
                    peer_device_id=str(self._own),
                    not_before=not_before,
                    resumed_snapshot_id=self._begun(held.device),
                ),
                timeout=_CALL_SECONDS,
            )
            await self._check(manifest, held, not_before)
            transfer = uuid.UUID(manifest.snapshot_id)
            await progress.begin_transfer(
                self._pool, transfer, held.device, "snapshot", progress.FETCHING, manifest.entries.rows
            )
            path = self._path(held.device, manifest.snapshot_id)
            for other in self._files(held.device):
                if other != path:  # of an export that is no more: nothing goes on with it
                    other.unlink(missing_ok=True)
            fetched = await self._fetch(stub, manifest, path, transfer)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        await self.import_database_snapshot(path, manifest, held)
        await progress.end_transfer(self._pool, transfer)
        for old in self._files(held.device):
            old.unlink(missing_ok=True)
        return fetched

    def _path(self, device: uuid.UUID, snapshot: str) -> Path:
        return self._folder / f"import-{device}-{snapshot}.sqlite"

    def _files(self, device: uuid.UUID) -> list[Path]:
        """The files of a device, the newest first."""
        return sorted(
            self._folder.glob(f"import-{device}-*.sqlite"),
            key=lambda each: each.stat().st_mtime_ns,
            reverse=True,
        )

    def _begun(self, device: uuid.UUID) -> str:
        """The snapshot whose chunks are stored; empty: none."""
        files = self._files(device)
        return files[0].stem.removeprefix(f"import-{device}-") if files else ""

    async def _check(self, manifest: pb.ExportDeviceStateResponse, held: Held, not_before: str) -> None:
        if manifest.device_id != str(held.device):
            raise StaleSnapshot(
                f"a snapshot of {held.device} was asked for, and one of {manifest.device_id} came"
            )
        if manifest.columns_hash != COLUMNS_HASH:
            raise PeerMismatch(
                "the owner has other columns than this region: upgrade both to the same version"
            )
        if not_before and not await self._pool.fetchval(_COVERS, manifest.watermark, not_before):
            raise StaleSnapshot(
                "the snapshot is older than the owner's state when it was offered; it is asked for again"
            )

    async def _fetch(
        self, stub: Any, manifest: pb.ExportDeviceStateResponse, path: Path, transfer: uuid.UUID
    ) -> int:
        """Complete the file; how many chunks were missing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        size, hashes = manifest.chunk_bytes, list(manifest.chunk_sha256)
        have = await asyncio.to_thread(_verified_chunks, path, hashes, size)
        if have == len(hashes):
            return 0
        request = pb.ReadSnapshotRequest(snapshot_id=manifest.snapshot_id, first_chunk=have)
        with path.open("r+b" if have else "wb") as file:
            file.seek(have * size)
            file.truncate()
            number = have
            async for response in stub.ReadSnapshot(request, timeout=_CALL_SECONDS):
                last = number == len(hashes) - 1
                length = manifest.file_bytes - number * size if last else size
                data = unpack(response.codec, response.data, length)
                if response.chunk != number or hashlib.sha256(data).digest() != hashes[number]:
                    raise DataLoss(
                        f"chunk {number} of a snapshot is not what the manifest says; it is fetched again"
                    )
                file.write(data)
                file.flush()
                number += 1
                await progress.add_progress(self._pool, transfer, progress.FETCHING, size=len(response.data))
        if number < len(hashes):
            raise DataLoss(
                f"a snapshot ended after {number} of {len(hashes)} chunks; the rest is fetched again"
            )
        return len(hashes) - have

    async def import_database_snapshot(
        self, path: Path, manifest: pb.ExportDeviceStateResponse, held: Held
    ) -> None:
        """Stage the rows, compare them with the manifest, then make them visible with their watermark."""
        whole = await asyncio.to_thread(_hash_file, path)
        if whole != manifest.file_sha256:
            await asyncio.to_thread(path.unlink)
            raise DataLoss("the file of a snapshot is not what the manifest says; it is fetched again")
        prefix = f"received_{held.device.hex[:12]}_"
        name = f"{prefix}{secrets.token_hex(4)}"
        for leftover in await self._pool.fetch(_LEFTOVERS, f"{prefix}%"):
            await self._pool.execute(_DROP.format(name=leftover["relname"]))
        await self._pool.execute(_CREATE.format(name=name))
        locations = await self._stage(path, name, manifest, held)
        await self._pool.execute(_INDEX.format(name=name, device=held.device))
        row = await self._pool.fetchrow(_SUMS.format(name=name))
        staged, said = sums_of(row["rows"], row["high"], row["low"]), read_sums(manifest.entries)
        if staged != said or len(locations) != manifest.location_count:
            raise StaleSnapshot(f"a snapshot has {staged}, and its manifest says {said}; it is refused whole")
        await self._make_visible(name, locations, manifest, held)
        _LOGGER.info(
            "snapshot imported", device=str(held.device), rows=staged.rows, watermark=manifest.watermark
        )

    async def _stage(
        self, path: Path, name: str, manifest: pb.ExportDeviceStateResponse, held: Held
    ) -> list[LocationRow]:
        transfer = uuid.UUID(manifest.snapshot_id)
        with open_snapshot(path) as reader:
            locations = await asyncio.to_thread(reader.locations)
            pages = reader.pages()
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                async with self._pool.acquire() as connection:
                    await connection.copy_records_to_table(
                        name,
                        schema_name="replication",
                        columns=_COLUMNS,
                        records=[_record(held.device, manifest.epoch, row) for row in page],
                    )
                await progress.add_progress(self._pool, transfer, progress.IMPORTING, rows=len(page))
        return locations

    async def _make_visible(
        self,
        name: str,
        locations: Sequence[LocationRow],
        manifest: pb.ExportDeviceStateResponse,
        held: Held,
    ) -> None:
        """One transaction, which readers see the whole of or nothing. It waits for them a little, again and again."""
        while True:
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await self._swap(connection, name, locations, manifest, held)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                await asyncio.sleep(self._settings.receiver.retry_seconds)
            else:
                return

    async def _swap(
        self,
        connection: Any,
        name: str,
        locations: Sequence[LocationRow],
        manifest: pb.ExportDeviceStateResponse,
        held: Held,
    ) -> None:
        device, epoch = held.device, manifest.epoch
        milliseconds = int(self._settings.snapshot.lock_timeout_seconds * 1000)
        await connection.execute(_LOCK_TIMEOUT.format(milliseconds=milliseconds))
        await hold_lane(connection, held)
        old = await connection.fetchval(_PARTITION, device)
        if old is None:
            raise PeerMismatch(f"region {device} was removed here while its snapshot was imported")
        if old:
            await connection.execute(_DETACH.format(name=old))
        await connection.execute(_ATTACH.format(name=name, device=device))
        if old:
            await connection.execute(_DROP.format(name=old))
        await connection.execute(_SET_PARTITION, device, name, epoch)
        await connection.execute(_CLEAR_LOCATIONS, device)
        await connection.executemany(
            _PUT_LOCATION,
            [
                (
                    device,
                    row.uuid,
                    row.kind,
                    row.origin,
                    row.entry_count,
                    to_time(row.indexed_us),
                    epoch,
                    row.version,
                )
                for row in locations
            ],
        )
        await connection.execute(_CLEAR_STATES, device)
        await restart_lane(connection, held)
        await connection.execute(_CANCEL_LOADS, device)
        as_of = to_time(manifest.as_of.ToMicroseconds())
        await connection.execute(
            _SET_WATERMARK, device, MODEL, epoch, manifest.watermark, manifest.closing_word, as_of
        )


def _record(device: uuid.UUID, epoch: int, row: EntryRow) -> tuple[Any, ...]:
    return (
        device,
        row.uuid,
        row.location,
        row.parent,
        row.kind,
        row.name,
        row.size_bytes,
        to_time(row.modified_us),
        row.fingerprint,
        row.details,
        epoch,
        row.version,
    )


def _verified_chunks(path: Path, hashes: Sequence[bytes], size: int) -> int:
    """How many chunks the file begins with."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        for number, expected in enumerate(hashes):
            if hashlib.sha256(file.read(size)).digest() != expected:
                return number
    return len(hashes)


def _hash_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
