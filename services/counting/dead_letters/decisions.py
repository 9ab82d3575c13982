"""Decisions about dead letters: each is replayed or dropped, once, over a separate connection.

Why a replay never counts an event twice: the row of its letter is locked and still waiting, and the number of its
replayed events is committed together with the rollups. (A large letter takes several transactions. If its replay stops
between two it keeps waiting: it can then be replayed to its end, and no longer be dropped.) An entry of the
journal that is a dead letter is in no flush. An entry that was never in the journal must never enter it: so its id has
to be below the floor of the cluster and of each open log, below which inserts are refused. Only then is the key looked
up in the journal. (While an insert may still use the key, a replay is refused. To journal the entry instead would be a
second way to count a letter, in another transaction than that of its state; the floor passes every id within a day.)
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.domain.blocks import Block, encode
from libs.domain.entry import Entry
from libs.domain.horizon import FLOOR_BEHIND_DOOR_MS
from libs.rpc.columns import parse
from libs.stores.postgres import AWAY, PostgresSettings, connect, make_durable, time_limits
from libs.stores.write_connection import InDoubt, Refused, WriteConnection
from services.counting.dead_letters.letters import Key, State, lock_letter, not_found, read_letter
from services.counting.flush.buffer import Buffer
from services.counting.flush.runs import add_run
from services.counting.journal.entry import NumberedEntry
from services.counting.recovery.stride import Stride
from services.counting.settings import FlushSettings, RecoverySettings
from tally.contract.errors import (
    AlreadyDecided,
    InvalidRequest,
    NotReplayable,
    TallyError,
    Unavailable,
    Violation,
)
from tally.contract.request_id import HORIZON_MS, time_ms_of

# Sealing updates the row, and so waits for a replay under way; a replay that waited for sealing finds no row.
_GENERATION = """
select generation from counting.generation where sealed_at is null order by generation desc limit 1 for share"""
_IS_BELOW_FLOOR = """
select floor > $1 and not exists (select from counting.log where state = 'open' and log.floor <= $1)
from public.cluster"""
_JOURNALED_HASH = "select request_hash from counting.journal where request_id = $1 and partition = $2"
_HAS_PARTITION = """
select exists (
    select from pg_inherits join pg_class on pg_class.oid = inhrelid
    cross join lateral regexp_match(pg_get_expr(relpartbound, inhrelid), $$FROM \\('(.+)'\\) TO \\('(.+)'\\)$$) as bound
    where inhparent = 'counting.journal'::regclass and not inhdetachpending
        and bound[1]::uuid <= $1 and $1 < bound[2]::uuid
) or exists (select from counting.dropped_partition where first_id <= $1 and $1 < end_id) -- it was empty"""
_REPLAYED = """
update counting.dead_letter set state = 'replayed', generation = $3, decided_at = clock_timestamp(), note = '',
    replayed_events = events
where request_id = $1 and partition = $2"""
_REPLAYED_IN_PART = """
update counting.dead_letter set replayed_events = $3, note = $4 where request_id = $1 and partition = $2"""
_NOTE_REPLAY = """
insert into counting.replay_log (request_id, partition, from_event, to_event, generation) values ($1, $2, $3, $4, $5)"""
_DROPPED = """
update counting.dead_letter set state = 'dropped', decided_at = clock_timestamp(), note = $3
where request_id = $1 and partition = $2"""

# A commit that waits for a lost standby outlives the connection that was cut.
_END_LAST = "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and application_name = $2"

JOURNALED = "it is in the journal already, and counted from there"
_CONNECTION = "tally counting dead letters"


@dataclass(frozen=True, slots=True)
class Decision:
    """A letter that is decided: its row as `read_letter` gives it, and whether it was decided before."""

    letter: Any
    was_decided: bool


# None: there is more to do, in another transaction. Whatever it raises, it raises before it writes anything.
Work = Callable[[Any], Awaitable[Decision | None]]


class Decisions:
    """Decides letters, one at a time in each shard: an operator's work must not hold up the counting."""

    def __init__(
        self, dsn: str, postgres: PostgresSettings, recovery: RecoverySettings, flush: FlushSettings
    ) -> None:
        self._dsn = dsn
        self._postgres = postgres
        self._limit_seconds = recovery.transaction_timeout_seconds
        self._statement_cells = flush.statement_cells
        self._stride = Stride(flush.statement_cells, self._limit_seconds)
        self._turn = asyncio.Lock()
        self._last_pid: int | None = None
        """of the server process of a decision in doubt, which may still be there"""

    async def replay(self, key: Key) -> Decision:
        """Add the events of a letter to the rollups. One whose entry is journaled already is dropped instead.

        What was begun before goes on where it was cut off.

        A letter past the horizon needs a look-up of its key: in the journal, for as long as that has the partition of
        its day, and thereafter in the archive, whose question is `was_archived(key)`; before there is an archive, a
        letter whose partition is gone cannot be replayed.

        Raises NotFound; AlreadyDecided when it was dropped; NotReplayable, and it stays as it is, when what it came to
        grief of still holds; Unavailable when Postgres is unreachable or the outcome unknown: the letter's state tells.
        """

        async def work(connection: Any) -> Decision | None:
            letter = await lock_letter(connection, key)
            match letter and letter["state"]:
                case None:
                    raise not_found(key)
                case State.REPLAYED:
                    return Decision(letter, was_decided=True)
                case State.DROPPED:
                    raise _decided_otherwise(key, letter)
            begin = letter["replayed_events"]
            if letter["log_id"] is None and not begin and await _is_journaled(connection, key, letter):
                await connection.execute(_DROPPED, key.request_id, key.partition, JOURNALED)
                return Decision(await read_letter(connection, key), was_decided=False)
            end = min(begin + self._stride.events, letter["events"])
            blocks = _blocks_of(key, letter, begin, end)
            generation = await connection.fetchval(_GENERATION)
            if generation is None:
                raise Unavailable("the generation is being sealed; ask again")
            await add_run(connection, generation, blocks, self._statement_cells)
            await connection.execute(_NOTE_REPLAY, key.request_id, key.partition, begin, end, generation)
            if end < letter["events"]:
                note = f"{end:,} of {letter['events']:,} events are replayed; replay it again for the others"
                await connection.execute(_REPLAYED_IN_PART, key.request_id, key.partition, end, note)
                return None
            await connection.execute(_REPLAYED, key.request_id, key.partition, generation)
            return Decision(await read_letter(connection, key), was_decided=False)

        while True:
            if (decision := await self._decide(key, work)) is not None:
                return decision

    async def drop(self, key: Key) -> Decision:
        """Keep the letter, and never count it. Raises NotFound, AlreadyDecided when it was replayed, Unavailable."""

        async def work(connection: Any) -> Decision:
            letter = await lock_letter(connection, key)
            match letter and letter["state"]:
                case None:
                    raise not_found(key)
                case State.DROPPED:
                    return Decision(letter, was_decided=True)
                case State.REPLAYED:
                    raise _decided_otherwise(key, letter)
            if letter["replayed_events"]:
                raise AlreadyDecided(f"{key} is being replayed: {letter['note']}")
            await connection.execute(_DROPPED, key.request_id, key.partition, "")
            return Decision(await read_letter(connection, key), was_decided=False)

        decision = await self._decide(key, work)
        assert decision is not None  # noqa: S101 - it has no parts
        return decision

    async def _decide(self, key: Key, work: Work) -> Decision | None:
        async def in_transaction(connection: Any) -> Decision | TallyError | None:
            if self._last_pid is not None:
                await connection.execute(_END_LAST, self._last_pid, _CONNECTION)
                self._last_pid = None
            await make_durable(connection, until_end_of_transaction=False)
            async with connection.transaction():
                try:
                    return await work(connection)
                except TallyError as error:
                    return error  # raised through the transaction, it would leave its end in doubt

        async with self._turn:
            try:
                opened = await connect(
                    self._dsn, self._postgres, _CONNECTION, **time_limits(self._limit_seconds)
                )
            except AWAY as error:
                raise Unavailable("Postgres cannot be reached now; ask again") from error
            connection = WriteConnection(opened)
            pid = connection.pid
            began = time.monotonic()
            try:
                decision = await connection.run(in_transaction, timeout_seconds=self._limit_seconds)
            except Refused as error:
                if error.is_of_the_data:
                    raise NotReplayable(f"the rollups refuse {key}: {error}") from error
                raise Unavailable(f"Postgres would not do it now ({error}); ask again") from error
            except InDoubt as error:
                self._last_pid = pid
                # Perhaps it was too much for the time there is.
                self._stride.note_failure(self._stride.events)
                raise Unavailable(
                    f"Postgres did not say what became of {key}; ask again: it is decided once"
                ) from error
            finally:
                connection.close()
            self._stride.note_success(time.monotonic() - began)
        if isinstance(decision, TallyError):
            raise decision
        return decision


async def _is_journaled(connection: Any, key: Key, letter: Any) -> bool:
    """Whether the journal has the entry of a letter that came from elsewhere. Raises NotReplayable if that is unknown.

    The order matters: below the floor nothing is journaled any more, so what is not found then never will be; and a
    partition that is there afterwards was there during the look-up.
    """
    is_below_floor = await connection.fetchval(_IS_BELOW_FLOOR, key.request_id)
    journaled_hash = await connection.fetchval(_JOURNALED_HASH, key.request_id, key.partition)
    has_partition = await connection.fetchval(_HAS_PARTITION, key.request_id)
    if journaled_hash is not None:
        if journaled_hash == letter["request_hash"]:
            return True
        raise NotReplayable(
            f"{key} cannot be replayed: other events are in the journal under its id, and an id counts once. "
            "Drop it, and send its events under an id of their own if they are to be counted"
        )
    if not is_below_floor:
        raise NotReplayable(
            f"{key} cannot be replayed yet: its id is so young that a shard may still count it. Ask again "
            f"after {_below_floor_at(key):%Y-%m-%dT%H:%MZ}"
        )
    if not has_partition:
        raise NotReplayable(
            f"{key} cannot be replayed: the journal has no entries of its day any more, so it is unknown whether "
            "it was counted. Drop it"
        )
    return False


def _below_floor_at(key: Key) -> datetime:
    """When the floor will have passed a key, with the minutes that it may be late."""
    late = timedelta(minutes=15)
    passed_ms = time_ms_of(key.request_id) + HORIZON_MS + FLOOR_BEHIND_DOOR_MS
    return datetime.fromtimestamp(passed_ms / 1000, tz=UTC) + late


def _blocks_of(key: Key, letter: Any, begin: int, end: int) -> list[Block]:
    """What some of the letter's events amount to: those from index `begin` to before `end`.

    Raises NotReplayable when they cannot be read.
    """
    try:
        events = parse(letter["payload"], "payload")
        if len(events) != letter["events"]:
            raise InvalidRequest(
                [Violation("payload", f"has {len(events)} events, and {letter['events']} were received")]
            )
    except InvalidRequest as error:
        raise NotReplayable(f"{key} cannot be read: {error.message}. Drop it") from error
    entry = Entry(key.request_id, key.partition, letter["request_hash"], letter["payload"], events)
    buffer = Buffer()
    buffer.add(NumberedEntry(letter["seq"] or 0, letter["received_at_us"], entry).part(begin, end))
    return encode(buffer.run())


def _decided_otherwise(key: Key, letter: Any) -> AlreadyDecided:
    note = f" ({letter['note']})" if letter["note"] else ""
    return AlreadyDecided(
        f"{key} was {letter['state']} at {letter['decided_at']:%Y-%m-%dT%H:%M:%SZ}{note}; that is final"
    )
