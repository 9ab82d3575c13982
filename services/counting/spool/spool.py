"""The spool: makes entries durable on the shard's own disk during an outage of Postgres.

An entry is stored under its key `(request_id, partition)`, with its first receipt, until the drain has its outcome from
the journal. It may be a duplicate: the journal's primary key decides that when it is drained.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import structlog

from libs.domain.entry import Entry, Outcome
from services.counting.settings import SpoolSettings
from services.counting.spool.file import Contents, HeldElsewhere, NoRoom, Spooled, SpoolFile
from tally.contract.errors import Overloaded

_LOGGER = structlog.get_logger(__name__)

T = TypeVar("T")

_FILE = "spool.sqlite"
_RETRY_AFTER_S = 2.0
_NEARLY_FULL = 0.9
_LOCK_TIMEOUT_S = 1.0


class Spool:
    """One shard's spool. All its work is done by one thread, in the order in which it was asked for."""

    def __init__(self, file: SpoolFile, thread: ThreadPoolExecutor, settings: SpoolSettings) -> None:
        self._file = file
        self._thread = thread
        self._settings = settings
        self._has_room = True
        self.path = file.path

    @property
    def contents(self) -> Contents:
        """What is in it, as of the last commit."""
        return self._file.contents

    def age_seconds(self, now_us: int) -> float:
        """Since when its first entry waits; 0 when it is empty."""
        oldest_at_us = self.contents.oldest_at_us
        return 0.0 if oldest_at_us is None else max(0.0, (now_us - oldest_at_us) / 1_000_000)

    def is_well(self, now_us: int) -> bool:
        """Whether it has room, and nothing in it has waited for too long."""
        has_room = self.contents.byte_count <= _NEARLY_FULL * self._settings.max_bytes
        return has_room and self.age_seconds(now_us) <= self._settings.max_age_seconds

    async def write(self, entries: Sequence[Entry], received_at_us: int) -> list[Outcome]:
        """Make entries durable, all or none; the outcome of each: SPOOLED or CONTENT_MISMATCH.

        Raises Overloaded when there is no room. A caller that is cancelled does not know whether they are there.
        """
        try:
            outcomes = await self._run(lambda: self._file.write(entries, received_at_us))
        except NoRoom as error:
            if self._has_room:
                _LOGGER.warning("spool cannot be written", path=str(self.path), error=str(error))
            self._has_room = False
            raise Overloaded(
                "Postgres is unreachable, and the spool of this shard has no room; send the same request again later",
                retry_after_s=_RETRY_AFTER_S,
            ) from error
        self._has_room = True
        return outcomes

    async def read(self, after_id: int) -> list[Spooled]:
        """A share of the entries for one insert, by id; none when there are no more. Raises NoRoom."""
        settings = self._settings
        return await self._run(
            lambda: self._file.read(after_id, settings.drain_entries, settings.drain_events)
        )

    async def delete(self, entries: Sequence[Spooled]) -> None:
        """Forget entries that are safe elsewhere. Raises NoRoom, when the disk does not even take that."""
        await self._run(lambda: self._file.delete([entry.id for entry in entries]))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))


@asynccontextmanager
async def open_spool(
    settings: SpoolSettings, data_dir: Path, shard: str, cluster_id: uuid.UUID
) -> AsyncIterator[Spool]:
    """Open the spool of a shard; `shard` is empty when it has no name of its own.

    What a former life left in it is still there. Raises NotReady, see SpoolFile.
    """
    with ThreadPoolExecutor(1, "spool") as thread:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(thread, _open_file, settings, data_dir, shard, cluster_id)
        if file.contents.entry_count:
            _LOGGER.info("spool found", path=str(file.path), entries=file.contents.entry_count)
        try:
            yield Spool(file, thread, settings)
        finally:
            await loop.run_in_executor(thread, file.close)


def _open_file(settings: SpoolSettings, data_dir: Path, shard: str, cluster_id: uuid.UUID) -> SpoolFile:
    """The file must be the same at the next start, or its entries would never be drained.

    The name of a shard sees to that. Processes without one take the first unlocked file, so that any of them
    finds what one of them left.
    """

    def open_in(folder: Path, patience_seconds: float) -> SpoolFile:
        return SpoolFile(folder / _FILE, cluster_id, settings.max_bytes, patience_seconds)

    if settings.folder is not None:
        return open_in(settings.folder, _LOCK_TIMEOUT_S)
    if shard:
        return open_in(data_dir / "spool" / quote(shard, safe=""), _LOCK_TIMEOUT_S)
    number = 0
    while True:
        try:
            return open_in(data_dir / "spool" / f"unnamed-{number}", 0.0)
        except HeldElsewhere:
            number += 1
