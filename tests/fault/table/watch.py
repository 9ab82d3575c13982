"""Eyes on a round while it goes on: what must hold at any instant, and when everything is back."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from libs.stores.postgres import AWAY
from tally.client import Client, Durability, TallyError
from tests.fault.table.invariants import check_snapshot
from tests.fault.table.ledger import Ledger
from tests.fault.table.requests import draw_key
from tests.support.eventually import eventually
from tests.support.reach import open_client

_LOOK_SECONDS = 0.2
_SNAPSHOT_SECONDS = 2.0
_READ_SECONDS = 0.1
_CALL_SECONDS = 2.0
_SILENT_SECONDS = 2.5
"""a log whose beat stands still for so long has lost its shard; a beat comes every second"""

_LOGS = """
select log_id, state, beat from counting.log join counting.heartbeat using (log_id) where state <> 'settled'"""
_JOURNALED = """
select count(*) from counting.journal where request_id = any($1::uuid[])"""


class Watch:
    """What was seen of a round, and what of it was wrong. Times are those of the event loop, in seconds."""

    def __init__(
        self, dsn: str, partition_count: int, ledger: Ledger, prefix: str, chance: random.Random
    ) -> None:
        """`ledger`: of the clients that count the videos whose ids are `prefix` and a number."""
        self.wrong: list[str] = []
        self.reads = 0
        self.failed_reads: Counter[str] = Counter()
        self.orphans_seen_at: float | None = None
        """when a log waited for the last time for somebody to bring it to its end"""
        self.spooled_seen_at: float | None = None
        """when an answered request was for the last time in a spool and not in the journal"""
        self.is_quiet = False
        """whether neither was so when it was last looked at"""
        self._dsn = dsn
        self._partition_count = partition_count
        self._ledger = ledger
        self._prefix = prefix
        self._chance = chance
        self._beats: dict[int, tuple[int, float]] = {}

    @asynccontextmanager
    async def running(self, door: str) -> AsyncIterator[None]:
        """Look within this context; `door` is the address for reads."""
        async with open_client(door) as client:
            tasks = [
                asyncio.create_task(self._again_and_again(self._look, _LOOK_SECONDS)),
                asyncio.create_task(self._again_and_again(self._take_snapshot, _SNAPSHOT_SECONDS)),
                asyncio.create_task(self._read(client)),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:
                if not task.cancelled() and (error := task.exception()):
                    raise error

    async def until_quiet(self, within_seconds: float) -> None:
        """Wait until no log waits for somebody and no answered request for the journal, but not for ever."""

        async def is_quiet() -> bool:
            return self.is_quiet

        await asyncio.sleep(3 * _LOOK_SECONDS)  # what was seen last may be of a moment ago
        with suppress(AssertionError):
            await eventually(is_quiet, within_seconds)

    async def _again_and_again(self, look: Callable[[Any], Awaitable[None]], pause: float) -> None:
        """On a connection of its own, and on a new one when Postgres comes back."""
        while True:
            try:
                connection = await asyncpg.connect(self._dsn, timeout=5, command_timeout=30)
                try:
                    while True:
                        await look(connection)
                        await asyncio.sleep(pause)
                finally:
                    connection.terminate()
            except AWAY:
                await asyncio.sleep(pause)

    async def _look(self, connection: Any) -> None:
        now = asyncio.get_running_loop().time()
        is_quiet = True  # told only once all was looked at: whoever waits for it looks at any moment
        beats: dict[int, tuple[int, float]] = {}
        for row in await connection.fetch(_LOGS):
            before = self._beats.get(row["log_id"])
            moved_at = before[1] if before and before[0] == row["beat"] else now
            beats[row["log_id"]] = (row["beat"], moved_at)
            if row["state"] == "closed" or now - moved_at > _SILENT_SECONDS:
                self.orphans_seen_at, is_quiet = now, False
        self._beats = beats
        spooled = [
            request for request in self._ledger.acknowledged if request.durability is Durability.SPOOLED
        ]
        if spooled:
            ids = [uuid.UUID(request.request_id) for request in spooled]
            entries = sum(len(request.partitions(self._partition_count)) for request in spooled)
            if await connection.fetchval(_JOURNALED, ids) < entries:
                self.spooled_seen_at, is_quiet = now, False
        self.is_quiet = is_quiet

    async def _take_snapshot(self, connection: Any) -> None:
        self.wrong += await check_snapshot(connection)

    async def _read(self, client: Client) -> None:
        """What was acknowledged as journaled before a strong read is in it, and nothing that was never sent."""
        while True:
            await asyncio.sleep(_READ_SECONDS)
            key = draw_key(self._chance, self._prefix)
            least = self._ledger.journaled[key]
            try:
                found = await client.get_count(*key, strong=True, timeout=_CALL_SECONDS)
            except TallyError as error:
                self.failed_reads[error.reason] += 1
                continue
            self.reads += 1
            if not least <= found.count <= self._ledger.sent[key]:
                self.wrong.append(
                    f"a strong read of {key} answered {found.count}; {least} were acknowledged before it, and "
                    f"{self._ledger.sent[key]} sent by then"
                )
