"""Wiring of the scheduler."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from libs.rpc.server import Servable
from libs.runtime.context import Context
from libs.runtime.service import Opened
from libs.stores.pool import open_pool
from libs.stores.postgres import reaching_postgres, time_limits
from libs.stores.transactions import durable_settings
from libs.telemetry.setup import Telemetry
from services.scheduler.job_servicer import JobServicer
from services.scheduler.leases import Leases
from services.scheduler.members import PLANNER_SETTINGS
from services.scheduler.metrics import Metrics
from services.scheduler.payments import Payments
from services.scheduler.planner import Planner
from services.scheduler.population_servicer import PopulationServicer
from services.scheduler.reports import Reports
from services.scheduler.returns import Returns
from services.scheduler.settings import SchedulerSettings
from services.scheduler.ticker import Ticker
from services.scheduler.timekeeper import Timekeeper
from services.scheduler.wakeups import Bell, Listener
from services.scheduler.work_servicer import WorkServicer
from tally.contract.errors import NotReady
from tally.scheduler.v1.job_pb2_grpc import add_JobServiceServicer_to_server
from tally.scheduler.v1.population_pb2_grpc import add_PopulationServiceServicer_to_server
from tally.scheduler.v1.work_pb2_grpc import add_WorkServiceServicer_to_server

NAME = "tally.scheduler.v1.WorkService"
_POPULATIONS_NAME = "tally.scheduler.v1.PopulationService"
_JOBS_NAME = "tally.scheduler.v1.JobService"
_BIN_SPACE = "select scheduler.bin_space()"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one scheduler."""

    planner: Planner
    leases: Leases
    reports: Reports
    returns: Returns
    ticker: Ticker
    metrics: Metrics
    heard: Bell


def build(
    pool: Any, planning_pool: Any, timekeeper: Timekeeper, settings: SchedulerSettings, telemetry: Telemetry
) -> Parts:
    """A scheduler on these connections; nothing runs yet."""
    metrics = Metrics(telemetry)
    heard, due = Bell(), Bell()
    payments = Payments(settings.send_within_seconds)
    planner = Planner(planning_pool, pool, timekeeper, settings.bin_space, metrics)
    return Parts(
        planner=planner,
        leases=Leases(pool, timekeeper, payments, settings, metrics, due),
        reports=Reports(pool, timekeeper, payments, settings, metrics),
        returns=Returns(pool, timekeeper, payments, settings, metrics),
        ticker=Ticker(pool, timekeeper, planner, settings, metrics, heard, due),
        metrics=metrics,
        heard=heard,
    )


@asynccontextmanager
async def open_scheduler(context: Context, settings: SchedulerSettings) -> AsyncIterator[Opened]:
    """Open a scheduler. Raises NotReady when the schema was made with another bin space."""
    postgres = context.postgres
    await _check_bin_space(context.pool, settings.bin_space)
    durable = await durable_settings(context.pool)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(
                context.dsn,
                postgres,
                "tally scheduler",
                statement_seconds=settings.transaction_timeout_seconds,
                server_settings={
                    **durable,
                    **PLANNER_SETTINGS,
                    **time_limits(settings.transaction_timeout_seconds),
                },
            )
        )
        planning_pool = await stack.enter_async_context(
            open_pool(
                context.dsn,
                postgres.model_copy(update={"pool_size": 2}),
                "tally scheduler planning",
                statement_seconds=settings.planning_timeout_seconds,
                server_settings={**durable, **time_limits(settings.planning_timeout_seconds)},
            )
        )
        timekeeper = Timekeeper(context.clock, context.pool, settings.clock_uncertainty_seconds)
        parts = build(pool, planning_pool, timekeeper, settings, context.telemetry)
        listener = Listener(context.dsn, postgres, parts.heard)
        loops = [
            context.background.start("scheduler", parts.ticker.run()),
            context.background.start("scheduler wake-ups", listener.run()),
        ]
        populations = PopulationServicer(pool, timekeeper, settings.bin_space)
        jobs = JobServicer(pool, timekeeper, parts.planner, settings.bin_space, parts.metrics, parts.heard)
        work = WorkServicer(parts.leases, parts.reports, parts.returns, timekeeper)
        try:
            yield Opened(
                [
                    Servable(
                        _POPULATIONS_NAME,
                        lambda server: add_PopulationServiceServicer_to_server(populations, server),
                    ),
                    Servable(_JOBS_NAME, lambda server: add_JobServiceServicer_to_server(jobs, server)),
                    Servable(NAME, lambda server: add_WorkServiceServicer_to_server(work, server)),
                ],
                is_ready=lambda: parts.ticker.is_up,
            )
        finally:
            for loop in loops:
                loop.cancel()


async def _check_bin_space(pool: Any, bin_space: int) -> None:
    with reaching_postgres():
        made_with = await pool.fetchval(_BIN_SPACE)
    if made_with != bin_space:
        raise NotReady(
            f"TALLY_SCHEDULER__BIN_SPACE is {bin_space}, and the schema was made with {made_with}. "
            "The bin space is fixed with the schema: set it to that"
        )
