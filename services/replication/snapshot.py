"""Export of a device as a snapshot (the source's snapshot.rs): one read of the database, a file, chunks in Postgres.

The chunks lie in Postgres, so that any replica serves them, and a peer goes on with them after either side was killed.
One export serves every peer for as long as it is fresh.
"""

import asyncio
import hashlib
import tempfile
import uuid
from pathlib import Path
from typing import Any

from libs.domain.clock import Clock
from services.replication.epoch import Life, check_life
from services.replication.hashing import COLUMNS_HASH, Sums
from services.replication.passes import location_of
from services.replication.rows import entry_of
from services.replication.settings import ReplicationSettings
from services.replication.snapshot_file import SnapshotWriter
from services.replication.wire import compress_batch, write_sums
from tally.contract.errors import NotFound
from tally.replication.v1 import peers_pb2 as pb

# One below the floor would be refused as soon as it is imported. What covers nothing in particular may be any age that
# is fresh, and what a peer has chunks of any age at all.
_KEPT = """
select manifest from replication.snapshot_export
where (made_at > now() - make_interval(secs => $1) or id = $3)
    and ($2 = '' or replication.covers(watermark, $2::text::pg_snapshot))
    and pg_snapshot_xmin(watermark) >= coalesce((select below from replication.floor where model = 'entry'), '0'::xid8)
order by id is not distinct from $3 desc, made_at desc limit 1"""
_SNAPSHOT = "select pg_current_snapshot()::text"
_LOCATIONS = """
select uuid, kind, origin, entry_count, indexed_at, version from replication.location order by uuid"""
_ENTRIES = """
select uuid, location, parent, kind, name, size_bytes, modified_at, fingerprint, details, version
from replication.entry order by uuid"""
_KEEP_EXPORT = """
insert into replication.snapshot_export (id, watermark, manifest) values ($1, $2::text::pg_snapshot, '')"""
_DESCRIBE = "update replication.snapshot_export set manifest = $2 where id = $1"
_KEEP_CHUNK = "insert into replication.snapshot_chunk (export, number, codec, data) values ($1, $2, $3, $4)"
_READ_CHUNK = "select codec, data from replication.snapshot_chunk where export = $1 and number = $2"
_HAS_EXPORT = "select exists (select from replication.snapshot_export where id = $1)"
# Written now and then, not with each chunk.
_TOUCH = """
update replication.snapshot_export set read_at = now()
where id = $1 and read_at < now() - make_interval(secs => $2)"""
_REMOVE = "delete from replication.snapshot_export where read_at < now() - make_interval(secs => $1)"
_TOUCHES = 10
"""So often at most, while an export is kept, it is noted that it is read."""
_PAGE_ROWS = 5_000
_CODECS = (pb.CODEC_GZIP,)


class SnapshotExporter:
    """Makes exports, and serves their chunks."""

    def __init__(self, pool: Any, settings: ReplicationSettings, clock: Clock, folder: Path) -> None:
        """`pool`: for long statements. `folder`: for the file while it is made."""
        self._pool = pool
        self._settings = settings
        self._clock = clock
        self._folder = folder
        self._making = asyncio.Lock()

    async def export_device_snapshot(
        self, device: uuid.UUID, life: Life, not_before: str, resumed: uuid.UUID | None = None
    ) -> pb.ExportDeviceStateResponse:
        """A manifest, without a word: of an export that is fresh and covers `not_before`, or of a new one.

        Peers that come while one is made wait, and share it. `resumed`: an export that the peer has chunks of.
        """
        async with self._making:
            fresh_s = self._settings.snapshot.fresh_seconds
            kept = await self._pool.fetchval(_KEPT, fresh_s, not_before, resumed)
            if kept is not None:
                manifest = pb.ExportDeviceStateResponse.FromString(kept)
                if manifest.epoch == life.epoch:
                    return manifest
            return await self._make(device, life)

    async def read_chunk(self, export: uuid.UUID, number: int) -> pb.ReadSnapshotResponse | None:
        """One chunk; None: there are no more. Raises NotFound. An export that is read is kept."""
        await self._pool.execute(_TOUCH, export, self._settings.snapshot.keep_seconds / _TOUCHES)
        row = await self._pool.fetchrow(_READ_CHUNK, export, number)
        if row is not None:
            return pb.ReadSnapshotResponse(chunk=number, codec=row["codec"], data=row["data"])
        if not await self._pool.fetchval(_HAS_EXPORT, export):
            raise NotFound(f"snapshot {export} was removed; export the device again")
        return None

    async def remove_old(self) -> None:
        """Remove exports that no peer should still read."""
        await self._pool.execute(_REMOVE, self._settings.snapshot.keep_seconds)

    async def _make(self, device: uuid.UUID, life: Life) -> pb.ExportDeviceStateResponse:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="export-", dir=self._folder) as folder:
            path = Path(folder) / "snapshot.sqlite"
            manifest = pb.ExportDeviceStateResponse(
                snapshot_id=str(uuid.uuid4()),
                device_id=str(device),
                epoch=life.epoch,
                columns_hash=COLUMNS_HASH,
                chunk_bytes=self._settings.snapshot.chunk_bytes,
            )
            manifest.as_of.FromMicroseconds(self._clock.now_us())
            await self._write_file(path, manifest, life)
            await self._keep_chunks(path, manifest)
        return manifest

    async def _write_file(self, path: Path, manifest: pb.ExportDeviceStateResponse, life: Life) -> None:
        writer = SnapshotWriter(path)
        sums = Sums()
        try:
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await check_life(connection, life)
                manifest.watermark = await connection.fetchval(_SNAPSHOT)
                locations = [location_of(row) for row in await connection.fetch(_LOCATIONS)]
                await asyncio.to_thread(writer.add_locations, locations)
                cursor = await connection.cursor(_ENTRIES)
                while page := await cursor.fetch(_PAGE_ROWS):
                    entries = [entry_of(row) for row in page]
                    sums.add_all(entries)
                    await asyncio.to_thread(writer.add_entries, entries)
            manifest.location_count = len(locations)
            manifest.entries.CopyFrom(write_sums(sums))
            described = {
                "device": manifest.device_id,
                "epoch": str(manifest.epoch),
                "watermark": manifest.watermark,
                "columns_hash": manifest.columns_hash.hex(),
                "rows": str(sums.rows),
                "fingerprint": f"{sums.high:016x}{sums.low:016x}",
            }
            await asyncio.to_thread(writer.finish, described)
        except BaseException:
            writer.abandon()
            raise

    async def _keep_chunks(self, path: Path, manifest: pb.ExportDeviceStateResponse) -> None:
        """Cut the file, chunk by chunk. The export becomes visible with its last one."""
        whole, size = hashlib.sha256(), self._settings.snapshot.chunk_bytes
        size_of_file = 0
        export = uuid.UUID(manifest.snapshot_id)
        with path.open("rb") as file:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_KEEP_EXPORT, export, manifest.watermark)
                while data := await asyncio.to_thread(file.read, size):
                    whole.update(data)
                    size_of_file += len(data)
                    packed = await asyncio.to_thread(
                        compress_batch, data, _CODECS, self._settings.sender.gzip_level
                    )
                    number = len(manifest.chunk_sha256)
                    await connection.execute(_KEEP_CHUNK, export, number, packed.codec, packed.data)
                    manifest.chunk_sha256.append(hashlib.sha256(data).digest())
                manifest.file_bytes = size_of_file
                manifest.file_sha256 = whole.digest()
                await connection.execute(_DESCRIBE, export, manifest.SerializeToString())
