"""Indexes a folder: it is walked beside the event loop, and its entries are handed to the bulk commit page by page."""

import asyncio
import uuid
from collections.abc import AsyncIterator

from services.replication.folder import Skipped, check_folder, location_of_folder, walk_folder
from services.replication.rows import EntryRow
from services.replication.transactions import Committed, TransactionManager

_KIND = "folder"


async def index_folder(
    transactions: TransactionManager, device: uuid.UUID, text: str, strategy: str | None
) -> tuple[uuid.UUID, Committed, Skipped]:
    """Commit all that a folder has as a location of this region. Raises InvalidRequest for what is no folder."""
    folder = await asyncio.to_thread(check_folder, text)
    location = location_of_folder(device, folder)
    skipped = Skipped()
    await transactions.put_location(location, _KIND, str(folder))
    pages = walk_folder(folder, location, skipped)

    async def each_page() -> AsyncIterator[list[EntryRow]]:
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield page

    committed = await transactions.commit_bulk_entries(
        location, each_page(), complete=True, strategy=strategy
    )
    return location, committed, skipped
