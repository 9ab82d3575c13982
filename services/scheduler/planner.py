"""Planning: a job that is due becomes a run with its slots, in one transaction that holds the job's row.

Any scheduler may plan any job at any time. Two that try at once only lose time: the row is locked, and a run is unique
by (job, logical time, repeat) (R000-01).
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from libs.domain.cadence import get_current_bin_numbers, period_start
from libs.stores.transactions import transaction
from services.scheduler.cut import Cut, cut
from services.scheduler.dead_letters import find_among
from services.scheduler.definition import Definition
from services.scheduler.lanes import FORCED, RETRY
from services.scheduler.members import FIRST, Items, read_members
from services.scheduler.metrics import EndReason, Metrics
from services.scheduler.partitions import Partitions
from services.scheduler.populations import POPULATIONS
from services.scheduler.retries import write_slots
from services.scheduler.skips import Span, find_overlap, first_to_plan, skip
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import notify
from tally.contract.errors import InvalidRequest, NotFound, Unavailable, Violation

_LOGGER = structlog.get_logger(__name__)

_LOCK_DUE = """
select job_id, definition, next_logical_at from scheduler.sync_job
where job_id = $2 and state = 'active' and next_plan_at <= $1 for update skip locked"""
_LOCK = "select job_id, definition from scheduler.sync_job where name = $1 for update"
_ADVANCE = "update scheduler.sync_job set next_logical_at = $2, next_plan_at = $3 where job_id = $1"
_INSERT = """
insert into scheduler.sync_run (job_id, logical_at, repeat, request_id, state, definition, handler,
    bin_numbers, bin_max, run_day, opens_at, closes_at, planned_at)
values ($1, $2, $3, $4, 'planned', $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (job_id, logical_at, repeat) do nothing
returning run_id"""
_SIZE = "update scheduler.sync_run set slots = $2, members = $3 where run_id = $1"
_REQUESTED = "select run_id from scheduler.sync_run where request_id = $1"
_IN_PROGRESS = """
select run_id from scheduler.sync_slot
where job_id = $1 and lane = $2 and state in ('queued', 'leased') and item_ids = $3 order by run_id limit 1"""
_NEXT_REPEAT = """
select coalesce(max(repeat), 0) + 1 from scheduler.sync_run where job_id = $1 and logical_at = $2"""


@dataclass(frozen=True, slots=True)
class Order:
    """A run to plan."""

    job_id: int
    definition: Definition
    logical_at: datetime
    repeat: int
    opens_at: datetime
    closes_at: datetime
    request_id: uuid.UUID | None = None

    @property
    def bins(self) -> tuple[list[int], int]:
        """The bins of its logical time, however late it is (T000-13), and bin_max."""
        cadence = self.definition.cadence
        return get_current_bin_numbers(cadence, self.logical_at), cadence.bin_max


@dataclass(frozen=True, slots=True)
class Planned:
    """A run that was written."""

    run_id: int
    order: Order
    size: Cut


class Planner:
    """Plans runs."""

    def __init__(
        self, pool: Any, other_pool: Any, timekeeper: Timekeeper, bin_space: int, metrics: Metrics
    ) -> None:
        """`pool`: of connections whose transactions may take as long as planning does; `other_pool` has short ones."""
        self._pool = pool
        self._other_pool = other_pool
        self._timekeeper = timekeeper
        self._bin_space = bin_space
        self._metrics = metrics
        self._partitions = Partitions()

    async def plan(self, job_id: int) -> bool:
        """Plan the next run of a job, if it is due, or skip what is too old. False if another is at it."""
        now = self._timekeeper.now()
        planned: Planned | None = None
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(_LOCK_DUE, now, job_id)
            if row is None:
                return False
            definition = Definition.model_validate_json(row["definition"])
            skipped: list[tuple[EndReason, int]] = []
            logical_at = first_to_plan(definition, row["next_logical_at"], now)
            if logical_at > row["next_logical_at"]:
                span = Span(row["next_logical_at"], logical_at)
                reason = f"the window opened more than {definition.catchup_hours} h before a scheduler could plan it"
                count = await skip(connection, job_id, definition, span, reason, now)
                skipped.append((EndReason.CATCHUP, count))
            opens_at = definition.opens_at(logical_at)
            if opens_at <= now:
                following = logical_at + definition.cadence.period
                if overlap := await find_overlap(connection, job_id, definition):
                    span = Span(logical_at, following)
                    count = await skip(connection, job_id, definition, span, overlap, now)
                    skipped.append((EndReason.OVERLAP, count))
                else:
                    closes_at = opens_at + definition.length
                    order = Order(job_id, definition, logical_at, 0, opens_at, closes_at)
                    planned = await self._write(connection, order, now)
                logical_at = following
            await connection.execute(_ADVANCE, job_id, logical_at, definition.opens_at(logical_at))
        for why, count in skipped:
            self._metrics.runs_ended(definition.name, "skipped", why, count)
        if planned is not None:
            self._tell(planned)
        return True

    async def plan_repeat(self, name: str, request_id: uuid.UUID, within: timedelta) -> int:
        """Plan a run beside those of the cadence, once for a request; its id.

        Raises NotFound, and InvalidRequest when the slots would become due over more than the job's window.
        """
        now = self._timekeeper.now()
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(_LOCK, name)
            if row is None:
                raise NotFound(f"there is no job {name!r}; `tally jobs list` lists the existing ones")
            run_id: int | None = await connection.fetchval(_REQUESTED, request_id)
            if run_id is not None:
                return run_id
            definition = Definition.model_validate_json(row["definition"])
            _check_within(definition, within)
            logical_at = period_start(definition.cadence, now)
            repeat = await connection.fetchval(_NEXT_REPEAT, row["job_id"], logical_at)
            order = Order(row["job_id"], definition, logical_at, repeat, now, now + within, request_id)
            planned = await self._write(connection, order, now)
        if planned is None:
            raise Unavailable("another run of this job was planned at the same time; ask again")
        self._tell(planned)
        return planned.run_id

    async def plan_letters(self, name: str, request_id: uuid.UUID, item_ids: Sequence[str]) -> int:
        """Plan a run of those items that are dead letters, once for a request; its id.

        Raises NotFound when there is no such job, or none of the items is one.
        """
        now = self._timekeeper.now()
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(_LOCK, name)
            if row is None:
                raise NotFound(f"there is no job {name!r}; `tally jobs list` lists the existing ones")
            run_id: int | None = await connection.fetchval(_REQUESTED, request_id)
            if run_id is not None:
                return run_id
            job_id, definition = row["job_id"], Definition.model_validate_json(row["definition"])
            items = await find_among(connection, job_id, item_ids)
            if not items:
                raise NotFound(
                    f"none of these items is a dead letter of {name}; `tally jobs dead list` lists them"
                )
            run_id = await self._write_items(connection, (job_id, definition), request_id, items, RETRY, now)
        self._metrics.new_bg_job_triggered_metric(name, 0, len(items))
        _LOGGER.info("run of dead letters planned", job=name, run_id=run_id, items=len(items))
        return run_id

    async def plan_forced(self, name: str, request_id: uuid.UUID, item_id: str) -> int:
        """Plan a forced sync of one item, once for a request; the id of its run.

        If one of the item is in progress in this job, it is that one. Raises NotFound when there is no such job, or it
        does not select the item.
        """
        now = self._timekeeper.now()
        async with transaction(self._other_pool) as connection:
            row = await connection.fetchrow(_LOCK, name)
            if row is None:
                raise NotFound(f"there is no job {name!r}; `tally jobs list` lists the existing ones")
            job_id, definition = row["job_id"], Definition.model_validate_json(row["definition"])
            run_id: int | None = await connection.fetchval(_REQUESTED, request_id)
            if run_id is None:
                run_id = await connection.fetchval(_IN_PROGRESS, job_id, FORCED, [item_id])
            if run_id is not None:
                return run_id
            population = POPULATIONS[definition.population]
            items = Items(population, definition.where, [item_id], FIRST)
            if not await read_members(connection, items, [], 1):
                raise NotFound(
                    f"{name} selects no {item_id!r}: it is not in {definition.population}, it is gone, or `where` "
                    "leaves it out"
                )
            run_id = await self._write_items(
                connection, (job_id, definition), request_id, [item_id], FORCED, now
            )
        self._metrics.new_bg_job_triggered_metric(name, 0, 1)
        _LOGGER.info("forced sync planned", job=name, run_id=run_id, item=item_id)
        return run_id

    async def _write_items(
        self,
        connection: Any,
        job: tuple[int, Definition],
        request_id: uuid.UUID,
        items: list[str],
        lane: int,
        now: datetime,
    ) -> int:
        """A run of some items beside those of the cadence, all due now; its id. The caller holds the job's row."""
        job_id, definition = job
        logical_at = period_start(definition.cadence, now)
        repeat = await connection.fetchval(_NEXT_REPEAT, job_id, logical_at)
        order = Order(job_id, definition, logical_at, repeat, now, now, request_id)
        run_id = await self._insert(connection, order, ([], definition.bin_max), now)
        if run_id is None:
            raise Unavailable("another run of this job was planned at the same time; ask again")
        size = definition.slot_size
        slots = await write_slots(connection, (job_id, run_id, 0), items, size, 1, now, lane)
        await connection.execute(_SIZE, run_id, slots, len(items))
        await notify(connection)
        return run_id

    async def _insert(
        self, connection: Any, order: Order, bins: tuple[list[int], int], now: datetime
    ) -> int | None:
        """The row of a run; None if there is one of this key already."""
        day = order.logical_at.astimezone(UTC).date()
        await self._partitions.attach(self._other_pool, day)
        run_id: int | None = await connection.fetchval(
            _INSERT,
            order.job_id,
            order.logical_at,
            order.repeat,
            order.request_id,
            order.definition.model_dump_json(),
            order.definition.handler,
            *bins,
            day,
            order.opens_at,
            order.closes_at,
            now,
        )
        return run_id

    async def _write(self, connection: Any, order: Order, now: datetime) -> Planned | None:
        """The run and its slots; None if there is one of this key already."""
        began = self._timekeeper.monotonic()
        bins = order.bins
        run_id = await self._insert(connection, order, bins, now)
        if run_id is None:
            return None
        window = order.opens_at, order.closes_at
        size = await cut(connection, run_id, order.job_id, order.definition, bins, self._bin_space, window)
        await connection.execute(_SIZE, run_id, size.slots, size.members)
        await notify(connection)
        self._metrics.planning.record(
            self._timekeeper.monotonic() - began, {"sync.job": order.definition.name}
        )
        return Planned(run_id, order, size)

    def _tell(self, planned: Planned) -> None:
        """The binning decision (000-30, 000-31)."""
        order, (bin_numbers, bin_max) = planned.order, planned.order.bins
        self._metrics.new_bg_job_triggered_metric(
            order.definition.name, len(bin_numbers), planned.size.members
        )
        _LOGGER.info(
            "run planned",
            job=order.definition.name,
            run_id=planned.run_id,
            logical_time=order.logical_at.isoformat(),
            repeat=order.repeat,
            bin_numbers=bin_numbers,
            bin_max=bin_max,
            num_chunks=planned.size.slots,
            **{f"bin_{POPULATIONS[order.definition.population].noun}": planned.size.members},
        )


def _check_within(definition: Definition, within: timedelta) -> None:
    if within > definition.length:
        most = definition.length // timedelta(seconds=1)
        raise InvalidRequest(
            [Violation("within_seconds", f"must be from 0 to {most}, the length of the job's window")]
        )
