"""EntryService: protobuf ↔ locations and entries."""

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.replication.checks import MAX_BATCH_ROWS, check_location, read_entries, read_uuid
from services.replication.indexer import index_folder
from services.replication.messages import FORCED, write_entry, write_location
from services.replication.reading import (
    BEGINNING,
    KnownLocation,
    count_loaded,
    find_location,
    list_entries,
    list_locations,
)
from services.replication.rows import NIL, EntryRow
from services.replication.state import want_location
from services.replication.sync import SyncService
from services.replication.transactions import TransactionManager, no_location
from tally.contract.errors import InvalidRequest, Violation
from tally.replication.v1 import entries_pb2 as pb
from tally.replication.v1.entries_pb2_grpc import EntryServiceServicer

_PAGE, _LARGEST_PAGE = 100, 1_000


class EntryServicer(EntryServiceServicer):
    """Serves the entries of this region, and what is here of others."""

    def __init__(
        self, pool: Any, transactions: TransactionManager, sync: SyncService, device: uuid.UUID
    ) -> None:
        """`pool`: for reads."""
        self._pool = pool
        self._transactions = transactions
        self._sync = sync
        self._device = device

    async def PutLocation(
        self, request: pb.PutLocationRequest, context: ServicerContext
    ) -> pb.PutLocationResponse:
        check_location(request.kind, request.origin)
        location = read_uuid(request.location_id or str(uuid.uuid4()), "location_id")
        await self._transactions.put_location(location, request.kind, request.origin)
        self._sync.on_commit()
        return pb.PutLocationResponse(location=await self._read(location))

    async def PutEntries(
        self, request: pb.PutEntriesRequest, context: ServicerContext
    ) -> pb.PutEntriesResponse:
        location = read_uuid(request.location_id, "location_id")
        rows = read_entries(request.entries, location)
        written = await self._transactions.put_entries(location, rows) if rows else 0
        self._sync.on_commit()
        return pb.PutEntriesResponse(written=written)

    async def DeleteEntries(
        self, request: pb.DeleteEntriesRequest, context: ServicerContext
    ) -> pb.DeleteEntriesResponse:
        location = read_uuid(request.location_id, "location_id")
        if len(request.entry_ids) > MAX_BATCH_ROWS:
            raise InvalidRequest([Violation("entry_ids", f"must be at most {MAX_BATCH_ROWS:,}")])
        keys = [read_uuid(each, f"entry_ids[{n}]") for n, each in enumerate(request.entry_ids)]
        deleted = await self._transactions.delete_entries(
            location, keys, with_descendants=request.with_descendants
        )
        self._sync.on_commit()
        return pb.DeleteEntriesResponse(deleted=deleted)

    async def DeleteLocation(
        self, request: pb.DeleteLocationRequest, context: ServicerContext
    ) -> pb.DeleteLocationResponse:
        deleted = await self._transactions.delete_location(read_uuid(request.location_id, "location_id"))
        self._sync.on_commit()
        return pb.DeleteLocationResponse(deleted=deleted)

    async def CommitBulkEntries(
        self, request_iterator: AsyncIterator[pb.CommitBulkEntriesRequest], context: ServicerContext
    ) -> pb.CommitBulkEntriesResponse:
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None or not first.HasField("commit") or first.entries:
            raise InvalidRequest([Violation("commit", "must be in the first message, without entries")])
        location = read_uuid(first.commit.location_id, "commit.location_id")
        committed = await self._transactions.commit_bulk_entries(
            location,
            _pages(requests, location),
            complete=first.commit.complete,
            strategy=_forced(first.commit.force_strategy),
        )
        self._sync.on_bulk_index_complete(committed.location)
        return pb.CommitBulkEntriesResponse(
            location=await self._read(location), written=committed.written, deleted=committed.deleted
        )

    async def IndexLocation(
        self, request: pb.IndexLocationRequest, context: ServicerContext
    ) -> pb.IndexLocationResponse:
        location, committed, skipped = await index_folder(
            self._transactions, self._device, request.folder, _forced(request.force_strategy)
        )
        self._sync.on_bulk_index_complete(committed.location)
        return pb.IndexLocationResponse(
            location=await self._read(location),
            written=committed.written,
            deleted=committed.deleted,
            skipped=skipped.first,
            skipped_count=skipped.count,
        )

    async def ListLocations(
        self, request: pb.ListLocationsRequest, context: ServicerContext
    ) -> pb.ListLocationsResponse:
        device = read_uuid(request.device_id, "device_id") if request.device_id else None
        size = _limit(request.page_size)
        after = _read_token(request.page_token)
        with reaching_postgres():
            found = await list_locations(self._pool, device, after, size + 1)
        page = found[:size]
        token = f"{page[-1].device}/{page[-1].uuid}" if len(found) > size else ""
        return pb.ListLocationsResponse(locations=map(write_location, page), next_page_token=token)

    async def ListEntries(
        self, request: pb.ListEntriesRequest, context: ServicerContext
    ) -> pb.ListEntriesResponse:
        location = await self._find(read_uuid(request.location_id, "location_id"))
        size = _limit(request.page_size)
        after = read_uuid(request.page_token, "page_token") if request.page_token else NIL
        with reaching_postgres():
            if location.state == "behind":
                async with self._pool.acquire() as connection, connection.transaction():
                    await want_location(connection, location.uuid)
            found = await list_entries(self._pool, location, after, size + 1)
            is_partial = location.state in ("behind", "loading")
            loaded = await count_loaded(self._pool, location) if is_partial else 0
        page = found[:size]
        return pb.ListEntriesResponse(
            location=write_location(location, loaded),
            entries=map(write_entry, page),
            next_page_token=str(page[-1].uuid) if len(found) > size else "",
            load_rows_done=loaded,
        )

    async def _find(self, location: uuid.UUID) -> KnownLocation:
        with reaching_postgres():
            found = await find_location(self._pool, location)
        if found is None:
            raise no_location(location)
        return found

    async def _read(self, location: uuid.UUID) -> pb.Location:
        return write_location(await self._find(location))


async def _pages(
    requests: AsyncIterator[pb.CommitBulkEntriesRequest], location: uuid.UUID
) -> AsyncIterator[Sequence[EntryRow]]:
    async for request in requests:
        if request.HasField("commit"):
            raise InvalidRequest([Violation("commit", "must be in the first message alone")])
        yield read_entries(request.entries, location)


def _forced(number: int) -> str | None:
    if not number:
        return None
    if number not in FORCED:
        raise InvalidRequest([Violation("force_strategy", f"is {number}, which cannot be forced")])
    return FORCED[number].value


def _limit(number: int) -> int:
    if number < 0:
        raise InvalidRequest([Violation("page_size", "must not be negative")])
    return min(number or _PAGE, _LARGEST_PAGE)


def _read_token(token: str) -> tuple[uuid.UUID, uuid.UUID]:
    if not token:
        return BEGINNING
    device, _, location = token.partition("/")
    return read_uuid(device, "page_token"), read_uuid(location, "page_token")
