"""A shard: opens one log after the other while the process runs."""

import asyncio
from collections.abc import Sequence
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
from services.counting.flush.backlog import Backlog
from services.counting.flush.flusher import Flusher
from services.counting.flush.pace import Pace
from services.counting.journal.appender import Appender, LogClosed
from services.counting.journal.attempts import Attempts
from services.counting.journal.heartbeat import keep_alive
from services.counting.journal.journal import Journal
from services.counting.journal.log import Log, make_log_id, open_log
from services.counting.journal.queue import Queue
from services.counting.metrics import Metrics
from services.counting.recovery.failover import Failover
from services.counting.recovery.recovery import Recovery
from services.counting.settings import CountingSettings
from services.counting.spool.spool import Spool
from services.counting.spool.spooler import Spooler
from tally.contract.errors import NotReady, Unavailable

_LOGGER = structlog.get_logger(__name__)

_REOPEN_SECONDS, _MOST_REOPEN_SECONDS = 0.5, 8.0
_SOON_SECONDS = 1.0
"""Waiting entries are spooled if a new log takes longer than this."""


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
        """None: entries are refused while Postgres is unreachable"""
        self.metrics = Metrics(telemetry)
        self._pace = Pace(settings.flush, settings.recovery.transaction_timeout_seconds)
        self.failover = Failover(
            pool,
            Recovery(pool, settings.recovery, settings.flush),
            settings.recovery,
            lambda: None if self._log is None else self._log.log_id,
            clock,
            self.metrics,
            telemetry,
        )
        self._queue = Queue(settings.journal)
        self._attempts = Attempts(settings.journal.max_group_entries)
        self._spooler = None if spool is None else Spooler(spool, self._queue, clock, self.metrics)
        self._log: Log | None = None
        self._given_up: set[int] = set()
        """logs whose server processes may still be there"""
        self._flusher: Flusher | None = None
        self._is_away = asyncio.Event()
        self._is_spooling = False
        self._stopping = asyncio.Event()
        catalogue.observe(telemetry.meter, catalogue.FLUSH_LAG, lambda: self.lag_seconds)
        catalogue.observe(telemetry.meter, catalogue.JOURNAL_WAITING, lambda: len(self._queue))
        if spool is not None:
            self.metrics.observe_spool(spool, clock)

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Make entries durable; the outcome of each, in order. Raises as `enqueue`, and Overloaded for a full spool."""
        return await _gather(self.enqueue(entries))

    def enqueue(self, entries: Sequence[Entry]) -> list[asyncio.Future[Outcome]]:
        """Queue entries, all or none; the outcome of each, in order, once it is durable, or Overloaded.

        Raises Overloaded when too many wait, and Unavailable while there is neither a log nor a spool. Whoever does
        not wait any longer cancels.
        """
        if self._log is not None and self._flusher is not None:
            self._flusher.check_capacity(self._queue.event_count, sum(len(entry.events) for entry in entries))
        elif not self._is_spooling:
            raise Unavailable(f"shard {self.name} cannot reach Postgres; send the same request again")
        return self._queue.enqueue(entries)

    async def append_spooled(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Journal entries that are in the spool; SPOOLED is the outcome of those that stay there.

        Raises Overloaded when the buffer is more than due for a flush: the rest of it is for fresh entries. Raises
        Unavailable while there is no log.
        """
        if self._log is None or self._flusher is None:
            raise Unavailable(f"shard {self.name} cannot reach Postgres")
        self._flusher.check_capacity(self._queue.event_count, self._pace.most_cells - self._pace.due_cells)
        return await _gather(self._queue.enqueue(entries))

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
                    self.failover.give_up(log.log_id)
        finally:  # no caller waits for an outcome that will not come
            self._log, self._is_spooling = None, False
            self._queue.complete_all(Outcome.UNAVAILABLE)
        await self.failover.recover_given_up()

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
        _LOGGER.warning("no log: Postgres is unreachable", shard=self.name, error=why)
        # What arrives from now on is queued for the spool: no caller must meet a moment with neither of them.
        self._log, self._is_spooling = None, self.spool is not None
        self._is_away.set()
        if self.spool is None:
            self._queue.complete_all(Outcome.UNAVAILABLE)

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
        """Write until `stop` is called, or until the log is in doubt or closed."""
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
                    tasks.create_task(keep_alive(self._pool, log, self._settings.recovery)),
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


async def _gather(outcomes: Sequence[asyncio.Future[Outcome]]) -> list[Outcome]:
    try:
        # One after the other: they come together, and asyncio.gather would wake up once for each.
        return [await outcome for outcome in outcomes]
    finally:
        for outcome in outcomes:
            outcome.cancel()
