"""The drain: from the spool into the journal, once Postgres is back.

An entry leaves the spool only when it is known to be in the journal or among the dead letters. After any interruption
it is drained again, and the journal's primary key prevents a second count.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog

from libs.domain.entry import Entry, Outcome
from libs.rpc.columns import parse
from libs.rpc.tracebacks import drop_tracebacks
from libs.runtime.loop import Loop
from libs.stores.postgres import AWAY, make_durable
from libs.stores.write_connection import InDoubt, Refused, borrow_for_writing
from libs.telemetry.setup import OFF, Telemetry
from services.counting.dead_letters.letters import DeadLetter, set_aside
from services.counting.shard import Shard
from services.counting.spool.file import NoRoom, Spooled
from services.counting.spool.spool import Spool
from tally.contract.errors import InvalidRequest, Overloaded, Unavailable

_LOGGER = structlog.get_logger(__name__)

_PAUSE_SECONDS, _LOOK_SECONDS = 0.5, 0.05
_SHARE_DEADLINE_SECONDS = 60.0
_NO_ROOM_PAUSE_SECONDS = 5.0
"""Without disk space to delete them, all entries would be offered again each time, in vain."""

_IN_THE_JOURNAL = frozenset((Outcome.JOURNALED, Outcome.DUPLICATE))
_REASONS = {
    Outcome.BELOW_FLOOR: "came out of a shard's spool when its request id was older than the floor",
    Outcome.CONTENT_MISMATCH: "came out of a shard's spool when its request id was taken, by other content",
    Outcome.INVALID: "came out of a shard's spool, and the journal refused it for good",
}
_UNREADABLE = "came out of a shard's spool, and cannot be read: {}"

# One below the floor may have been counted by a retry elsewhere. Then it is a duplicate, and no dead letter. The lock
# makes the transaction a write, whose commit waits for the standby: a visible row may not be on the standby yet, if
# the wait of its insert was cancelled.
_FIND_JOURNALED = """
select true from counting.journal where request_id = $1 and partition = $2 and request_hash = $3 for key share"""


class Drain:
    """Empties one spool through the door of its shard, a share at a time, so that fresh entries are not held up."""

    def __init__(
        self, spool: Spool, shard: Shard, pool: Any, timeout_seconds: float, telemetry: Telemetry = OFF
    ) -> None:
        """`timeout_seconds`: how long the transaction of a dead letter may take."""
        self._spool = spool
        self._shard = shard
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._after_id = 0
        self._no_room: NoRoom | None = None
        self.loop = Loop(
            "drain",
            self._turn,
            interval_seconds=_PAUSE_SECONDS,
            deadline_seconds=_SHARE_DEADLINE_SECONDS,
            jitter=0.0,
            transient=(*AWAY, Refused, InDoubt),
            telemetry=telemetry,
        )

    async def _turn(self) -> float | None:
        """Drain one share, if there is one and a log to drain into; the pause until the next."""
        if not (self._spool.contents.entry_count and self._shard.has_log):
            self._begin_pass()
            return None
        try:
            return 0.0 if await self._drain_share() else None
        except (Overloaded, Unavailable):
            return None
        except NoRoom as error:
            _LOGGER.warning("spool drain failed; will retry", path=str(self._spool.path), error=str(error))
            return _NO_ROOM_PAUSE_SECONDS

    async def finish(self, within_seconds: float) -> None:
        """Wait until the spool is empty, within the time limit, and only while Postgres is reachable."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while self._spool.contents.entry_count and self._shard.has_log:  # noqa: ASYNC110  either may end
                    await asyncio.sleep(_LOOK_SECONDS)
        if left := self._spool.contents.entry_count:
            _LOGGER.warning(
                "entries stay in the spool; the next start with it drains them",
                path=str(self._spool.path),
                entries=left,
            )

    def _begin_pass(self) -> None:
        self._after_id, self._no_room = 0, None

    async def _drain_share(self) -> bool:
        """Offer the next share to the journal; false after the last, and then the next pass begins.

        A pass offers every entry once: one that stays must not keep back those behind it. A disk that is full may not
        even accept that an entry is deleted. Then the others are journaled all the same, and NoRoom is raised at the
        end of the pass.
        """
        share = await self._spool.read(self._after_id)
        if not share:
            no_room = self._no_room
            self._begin_pass()
            if no_room is not None:
                raise no_room
            return False
        try:
            await self._move(share)
        except NoRoom as error:
            drop_tracebacks(error)  # its frames hold the share
            self._no_room = error
        self._after_id = share[-1].id
        return True

    async def _move(self, share: Sequence[Spooled]) -> None:
        dead: list[tuple[Spooled, str]] = []
        entries: list[tuple[Spooled, Entry]] = []
        for spooled in share:
            try:
                entries.append((spooled, _read(spooled)))
            except InvalidRequest as error:
                dead.append((spooled, _UNREADABLE.format(error)))
        outcomes = await self._shard.append_spooled([entry for _, entry in entries])
        done = []
        for (spooled, _), outcome in zip(entries, outcomes, strict=True):
            if outcome in _IN_THE_JOURNAL:
                done.append(spooled)
            elif outcome in _REASONS:
                dead.append((spooled, _REASONS[outcome]))
        for spooled, reason in dead:
            await self._set_aside(spooled, reason)
            done.append(spooled)
        if done:
            await self._spool.delete(done)
            self._shard.metrics.drained.add(len(done))

    async def _set_aside(self, spooled: Spooled, reason: str) -> None:
        """Have the entry among the dead letters, or find it in the journal, for certain. Raises InDoubt and Refused."""

        async def work(connection: Any) -> bool:
            async with connection.transaction():
                # The spool forgets the entry after this: what a server forgets when it crashes is not safe there yet.
                await make_durable(connection, until_end_of_transaction=True)
                key = (spooled.request_id, spooled.partition, spooled.request_hash)
                if await connection.fetchval(_FIND_JOURNALED, *key):
                    return False
                await set_aside(connection, _letter_of(spooled, reason))
                return True

        async with borrow_for_writing(self._pool) as connection:
            is_dead = await connection.run(work, timeout_seconds=self._timeout_seconds)
        if is_dead:
            _LOGGER.warning(
                "spooled entry became a dead letter", request_id=str(spooled.request_id), reason=reason
            )


def _read(spooled: Spooled) -> Entry:
    """Raises InvalidRequest."""
    return Entry(
        request_id=spooled.request_id,
        partition=spooled.partition,
        request_hash=spooled.request_hash,
        payload=spooled.payload,
        events=parse(spooled.payload, "payload"),
        traceparent=spooled.traceparent,
        received_at_us=spooled.received_at_us,
    )


def _letter_of(spooled: Spooled, reason: str) -> DeadLetter:
    return DeadLetter(
        request_id=spooled.request_id,
        partition=spooled.partition,
        log_id=None,
        seq=None,
        received_at_us=spooled.received_at_us,
        event_count=spooled.event_count,
        request_hash=spooled.request_hash,
        payload=spooled.payload,
        reason=reason,
    )
