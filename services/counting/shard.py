"""A shard: log after log, one at a time, for as long as the process lives."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome
from libs.stores.postgres import AWAY, PostgresSettings
from libs.stores.schema import Cluster
from libs.stores.write_connection import InDoubt, Refused
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from services.counting.appender import Appender, LogClosed
from services.counting.attempts import Attempts
from services.counting.backlog import Backlog
from services.counting.empty_partitions import drop_empty_partitions
from services.counting.flusher import Flusher
from services.counting.journal import Journal
from services.counting.log import Log, beat, make_log_id, open_log, read_beats
from services.counting.metrics import Metrics
from services.counting.opening_floors import raise_opening_floors
from services.counting.pace import Pace
from services.counting.partitions import keep_partitions
from services.counting.queue import Queue
from services.counting.recovery import Recovery
from services.counting.settings import CountingSettings
from services.counting.spool import Spool
from services.counting.spooler import Spooler
from services.counting.takeover import Takeover
from tally.contract.errors import NotReady, Unavailable

_LOGGER = structlog.get_logger(__name__)

_REOPEN_SECONDS, _MOST_REOPEN_SECONDS = 0.5, 8.0
_SOON_SECONDS = 1.0
"""What waits is spooled when a new log takes longer than this."""
_UPKEEP_SECONDS = 600.0
_UPKEEP_RETRY_SECONDS = 5.0


class Shard:
    """Takes entries, and runs the life of one log after the other."""

    def __init__(
        self,
        name: str,
        dsn: str,
        pool: Any,
        clock: Clock,
        postgres: PostgresSettings,
        settings: CountingSettings,
        telemetry: Telemetry,
        spool: Spool | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        """`cluster`: the one that it may write to; None: whichever Postgres has."""
        self.name = name
        self._dsn = dsn
        self._pool = pool
        self._clock = clock
        self._postgres = postgres
        self._settings = settings
        self._telemetry = telemetry
        self._cluster = cluster
        self.spool = spool
        """None: entries are refused while Postgres is away"""
        self.metrics = Metrics(telemetry)
        self._pace = Pace(settings.flush, settings.recovery.transaction_timeout_seconds)
        self._recovery = Recovery(pool, settings.recovery, settings.flush)
        self._queue = Queue(settings.journal)
        self._attempts = Attempts(settings.journal.max_group_entries)
        self._spooler = None if spool is None else Spooler(spool, self._queue, clock, self.metrics)
        self._log: Log | None = None
        self._given_up: set[int] = set()
        """logs whose server processes may still be there"""
        self._flusher: Flusher | None = None
        self._is_away = asyncio.Event()
        self._is_spooling = False
        self._unsettled: set[int] = set()
        self._stopping = asyncio.Event()
        catalogue.observe(telemetry.meter, catalogue.FLUSH_LAG, lambda: self.lag_seconds)
        catalogue.observe(telemetry.meter, catalogue.JOURNAL_WAITING, lambda: len(self._queue))
        if spool is not None:
            self.metrics.observe_spool(spool, clock)

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Make entries durable; the outcome of each, in order. Raises as `offer`, and Overloaded for a full spool."""
        return await _gather(self.offer(entries))

    def offer(self, entries: Sequence[Entry]) -> list[asyncio.Future[Outcome]]:
        """Queue entries, all or none; the outcome of each, in order, once it is durable, or Overloaded.

        Raises Overloaded when too many wait, and Unavailable while there is neither a log nor a spool. Whoever does
        not wait any longer cancels.
        """
        if self._log is not None and self._flusher is not None:
            self._flusher.admit(self._queue.event_count, sum(len(entry.events) for entry in entries))
        elif not self._is_spooling:
            raise Unavailable(f"shard {self.name} cannot reach Postgres; send the same request again")
        return self._queue.put(entries)

    async def append_spooled(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Journal entries that are in the spool; SPOOLED is the outcome of those that stay there.

        Raises Overloaded when the buffer is more than due for a flush: the rest of it is for fresh entries. Raises
        Unavailable while there is no log.
        """
        if self._log is None or self._flusher is None:
            raise Unavailable(f"shard {self.name} cannot reach Postgres")
        self._flusher.admit(self._queue.event_count, self._pace.most_cells - self._pace.due_cells)
        return await _gather(self._queue.put(entries))

    @property
    def has_log(self) -> bool:
        """Whether Postgres took entries when it was last asked."""
        return self._log is not None

    @property
    def is_ready(self) -> bool:
        """Whether entries become durable here, and neither the rollups nor the spool are too far behind."""
        if self.spool is not None and not self.spool.is_well(self._clock.now_us()):
            return False
        if self._log is None:
            return self._is_spooling
        return self.lag_seconds <= self._settings.max_flush_lag_seconds

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest entry of the log that the rollups lack; 0 when there is none."""
        since = self._flusher.oldest_unapplied_at if self._flusher else None
        return 0.0 if since is None else self._clock.monotonic() - since

    async def run_logs(self) -> None:
        """Open a log and write to it until it is in doubt; then the next. Returns after `stop`.

        Raises NotReady when Postgres is of another cluster, or loses what it commits.
        """
        try:
            while not self._stopping.is_set():
                log = await self._open_log()
                if isinstance(log, NotReady):
                    raise log
                if log is None:
                    break
                try:
                    await self._write_to(log)
                finally:
                    if not self._stopping.is_set():
                        self.metrics.given_up.add(1)
                    log.abandon()
                    self._given_up.add(log.log_id)
                    self._unsettled.add(log.log_id)
        finally:  # and nobody waits for what will not come
            self._log, self._is_spooling = None, False
            self._queue.answer_all(Outcome.UNAVAILABLE)
        await self._recover(self._unsettled)

    async def run_recovery(self) -> None:
        """Bring the logs to their end that this shard gave up, and those whose shards are silent. For ever."""
        pause = self._settings.recovery.heartbeat_seconds
        takeover = Takeover(self._settings.recovery.takeover_seconds, pause)
        while True:
            await asyncio.sleep(pause)
            try:
                beats = await read_beats(self._pool)
            except AWAY:
                continue
            own = self._log and self._log.log_id
            silent = takeover.look(beats, self._clock.monotonic())
            await self._recover(self._unsettled.union(silent) - {own})

    async def run_upkeep(self) -> None:
        """Keep journal partitions ahead of time, and drop old ones that are empty. For ever."""
        while True:
            try:
                await keep_partitions(self._pool, self._settings.journal.partitions_ahead_hours)
                await raise_opening_floors(self._pool)
                await drop_empty_partitions(self._pool)
            except AWAY as error:
                _LOGGER.warning("journal partitions not kept", error=str(error))
                await asyncio.sleep(_UPKEEP_RETRY_SECONDS)
            else:
                await asyncio.sleep(_UPKEEP_SECONDS)

    def stop(self) -> None:
        """Let `run_logs` flush what it has, settle its log and return. Nothing must be appended any more."""
        self._stopping.set()

    async def _open_log(self) -> Log | NotReady | None:
        """The next log, as soon as Postgres commits it; what waits meanwhile is spooled. None after `stop`.

        NotReady is returned, because the task group would put it into a group.
        """
        self._is_away.clear()
        if self._attempts.is_away:
            self._note_away("inserts do not get through")
        async with asyncio.TaskGroup() as tasks:
            spooling = tasks.create_task(self._spool_groups())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._attempts.pause_seconds):
                    await self._stopping.wait()
            log = await self._try_to_open_log()
            spooling.cancel()
        return log

    async def _try_to_open_log(self) -> Log | NotReady | None:
        """One attempt after the other, each with the server processes of those before ended."""
        log_id, pause = make_log_id(), _REOPEN_SECONDS
        while not self._stopping.is_set():
            try:
                log = await open_log(
                    self._dsn,
                    self._postgres,
                    self._settings.recovery,
                    self.name,
                    log_id=log_id,
                    given_up=self._given_up,
                    cluster=self._cluster,
                )
            except NotReady as error:
                return error
            except InDoubt as error:
                # It may be committed after all, and is then a log to recover: not too many of them.
                self._note_away(str(error))
                self._given_up.add(log_id)
                log_id, pause = make_log_id(), min(2 * pause, _MOST_REOPEN_SECONDS)
            except (*AWAY, Refused) as error:
                self._note_away(str(error))
                pause = _REOPEN_SECONDS
            else:
                return log
            await asyncio.sleep(pause)
        return None

    def _note_away(self, why: str) -> None:
        _LOGGER.warning("no log: Postgres is away", shard=self.name, error=why)
        # What is offered from now on is queued for the spool: no caller must meet a moment with neither of them.
        self._log, self._is_spooling = None, self.spool is not None
        self._is_away.set()
        if self.spool is None:
            self._queue.answer_all(Outcome.UNAVAILABLE)

    async def _spool_groups(self) -> None:
        """Spool what waits, once Postgres is known to be away or a log is long in coming. Until cancelled."""
        if self._spooler is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_SOON_SECONDS):
                await self._is_away.wait()
        self._log, self._is_spooling = None, True
        await self._spooler.run()

    async def _write_to(self, log: Log) -> None:
        """Write until somebody calls `stop`, or until the log is in doubt or closed."""
        _LOGGER.info("log opened", shard=self.name, log_id=log.log_id)
        journal = Journal(log.inserts, log.log_id, self._settings.journal.insert_timeout_seconds)
        backlog = Backlog(lambda: self._pace.most_cells)
        appender = Appender(log, journal, backlog, self._clock, self._telemetry, self.metrics)
        flusher = Flusher(log, appender, self._settings.flush, self._pace, self._clock, self.metrics)
        self._log, self._flusher, self._is_spooling = log, flusher, False
        try:
            async with asyncio.TaskGroup() as tasks:
                flushing = tasks.create_task(flusher.run())
                others = [
                    tasks.create_task(self._append_groups(appender, flusher)),
                    tasks.create_task(self._keep_alive(log)),
                ]
                await self._stopping.wait()
                flusher.stop()
                await flushing
                for task in others:
                    task.cancel()
        except* (InDoubt, LogClosed) as errors:
            reasons = [str(error) or type(error).__name__ for error in errors.exceptions]
            _LOGGER.warning("log given up", shard=self.name, log_id=log.log_id, reasons=reasons)

    async def _append_groups(self, appender: Appender, flusher: Flusher) -> None:
        while True:
            group = await self._queue.take_group(self._attempts.group_entries)
            flusher.note_arrival()
            try:
                await appender.append(group)
            except BaseException as error:
                if isinstance(error, InDoubt):
                    self._attempts.note_failure(len(group))
                self._queue.put_back(group)
                raise
            self._attempts.note_success()
            flusher.note_arrival()  # a flush meanwhile may have taken all that was there before

    async def _keep_alive(self, log: Log) -> None:
        while True:
            # A task of its own: on a connection that is silent even a cancellation has to wait.
            beating = asyncio.create_task(self._is_open(log))
            await asyncio.wait({beating}, timeout=self._settings.recovery.statement_timeout_seconds)
            if beating.done() and not beating.result():
                raise LogClosed
            await asyncio.sleep(self._settings.recovery.heartbeat_seconds)

    async def _is_open(self, log: Log) -> bool:
        try:
            return await beat(self._pool, log.log_id)
        except AWAY:
            return True  # the inserts will tell

    async def _recover(self, log_ids: Iterable[int]) -> None:
        for log_id in list(log_ids):
            try:
                if await self._recovery.take_over(log_id):
                    self._unsettled.discard(log_id)
                    self.metrics.taken_over.add(1)
            except AWAY as error:
                _LOGGER.warning("recovery goes on later", log_id=log_id, error=str(error))


async def _gather(outcomes: Sequence[asyncio.Future[Outcome]]) -> list[Outcome]:
    try:
        # One after the other: they come together, and asyncio.gather would wake up once for each.
        return [await outcome for outcome in outcomes]
    finally:
        for outcome in outcomes:
            outcome.cancel()
