"""Storing: verified accounts go into the checkpoint, and from there in parts to the dataset."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from libs.dataset.parts import Part, open_duckdb, write_part
from libs.domain.clock import Clock
from libs.stores.objects import Objects
from services.worker.handlers.fetch_repo.checkpoint import Checkpoint, Kept
from services.worker.handlers.fetch_repo.delivery import Delivery
from services.worker.handlers.fetch_repo.verifying import Fetched
from services.worker.settings import FetchSettings
from tally.backfill.v1 import delivery_pb2 as pb
from tally.contract.errors import TallyError

_LOGGER = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.05
_RETRY_SECONDS = 1.0


class Storing:
    """Has two loops: one commits to the checkpoint, one delivers what is in it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        objects: Objects,
        delivery: Delivery,
        clock: Clock,
        settings: FetchSettings,
    ) -> None:
        self._checkpoint = checkpoint
        self._objects = objects
        self._delivery = delivery
        self._clock = clock
        self._settings = settings
        self._queue: list[tuple[Fetched, asyncio.Future[None]]] = []
        self._queued = asyncio.Event()
        self._choosing = asyncio.Lock()
        """while the checkpoint and `_kept` may differ"""
        self._kept = {kept.did: kept for kept in checkpoint.list_accounts()}
        self._stored: dict[str, asyncio.Future[None]] = {}
        """of accounts that are on their way to the dataset"""
        self._fetching = 0
        self._changed_at = clock.monotonic()
        """when an account was kept, or a batch was fetched, last"""
        self._began_at = clock.monotonic()
        """when the oldest account was kept"""
        self._filled = asyncio.Event()
        """an account is kept"""
        if self._kept:
            self._filled.set()
            _LOGGER.info("accounts of an earlier life are delivered first", accounts=len(self._kept))

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Context for the fetches of a batch: during these, parts may still grow."""
        self._fetching += 1
        try:
            yield
        finally:
            self._fetching -= 1
            self._changed_at = self._clock.monotonic()

    def has(self, did: str) -> bool:
        """Whether an account is kept already, and will be delivered without being fetched."""
        return did in self._kept

    async def add(self, account: Fetched) -> None:
        """Keep an account; returns when it is durable."""
        saved = asyncio.get_running_loop().create_future()
        self._queue.append((account, saved))
        self._queued.set()
        await saved

    def stored(self, did: str) -> "asyncio.Future[None]":
        """Is done when a kept account is in the dataset."""
        return self._stored.setdefault(did, asyncio.get_running_loop().create_future())

    async def keep(self) -> None:
        """Commit what is added, everything within `checkpoint_seconds` at once. Runs until cancelled."""
        while True:
            await self._queued.wait()
            await asyncio.sleep(self._settings.checkpoint_seconds)
            self._queued.clear()
            queue, self._queue = self._queue, []
            await self._save([account for account, _ in queue])
            for _, saved in queue:
                if not saved.done():  # its batch may have been given up
                    saved.set_result(None)

    async def _save(self, accounts: Sequence[Fetched]) -> None:
        async with self._choosing:
            # One that is kept already may be leaving just now: its rows must stay as they are.
            fresh = {account.did: account for account in accounts if account.did not in self._kept}
            await asyncio.to_thread(self._checkpoint.save, fresh.values())
            if not self._kept:
                self._began_at = self._clock.monotonic()
            self._changed_at = self._clock.monotonic()
            for did, account in fresh.items():
                self._kept[did] = Kept(did, account.rev, len(account.rows), account.byte_count)
            self._filled.set()

    async def deliver(self) -> None:
        """Deliver the stored repositories each time that a delivery is due. Runs until cancelled."""
        while True:
            await self._filled.wait()
            await asyncio.sleep(_LOOK_SECONDS)
            if not self._is_due():
                continue
            try:
                await self._deliver()
            except TallyError as error:
                _LOGGER.warning("accounts not delivered; will retry", error=error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    def _is_due(self) -> bool:
        """Enough bytes, long enough ago, or nothing more to come."""
        if not self._kept:
            return False
        settings, now = self._settings, self._clock.monotonic()
        has_all = not self._fetching and now - self._changed_at >= settings.linger_seconds
        is_old = now - self._began_at >= settings.part_seconds
        size = sum(kept.byte_count for kept in self._kept.values())
        return has_all or is_old or size >= settings.part_mib * 1024 * 1024

    async def _deliver(self) -> None:
        async with self._choosing:
            leaving = await asyncio.to_thread(self._checkpoint.begin_delivery)
        with TemporaryDirectory(dir=self._checkpoint.work_folder) as folder:
            parts = await asyncio.to_thread(self._write_parts, Path(folder))
            for part in parts:
                await self._objects.put(part.name, part.path)
        await self._delivery.deliver(_request_of(leaving, parts))
        await asyncio.to_thread(self._checkpoint.end_delivery)
        self._began_at = self._clock.monotonic()
        for kept in leaving:
            del self._kept[kept.did]
            if (stored := self._stored.pop(kept.did, None)) is not None and not stored.done():
                stored.set_result(None)
        if not self._kept:
            self._filled.clear()
        _LOGGER.info("accounts delivered", accounts=len(leaving), parts=len(parts))

    def _write_parts(self, folder: Path) -> list[Part]:
        with open_duckdb() as connection:
            return [write_part(connection, rows, folder) for rows in self._checkpoint.leaving_parts()]


def _request_of(leaving: list[Kept], parts: list[Part]) -> pb.DeliverRequest:
    return pb.DeliverRequest(
        parts=[
            pb.Part(
                name=part.name,
                collection=part.collection,
                row_count=part.row_count,
                byte_count=part.byte_count,
            )
            for part in parts
        ],
        repos=[pb.StoredRepo(did=kept.did, rev=kept.rev, record_count=kept.record_count) for kept in leaving],
    )
