"""How many letters wait, as a metric and in the log."""

import asyncio

import asyncpg
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracer
from structlog.testing import capture_logs

from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from services.counting.dead_letters.watch import DeadLetterWatch
from tests.support.entries import new_id
from tests.support.eventually import eventually
from tests.support.gauges import read_gauge
from tests.support.letters import bury_spooled, open_decisions


async def test_letters_that_wait_are_a_metric_and_more_of_them_a_warning(dsn: str) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        for _ in range(2):
            keys = await bury_spooled(pool, {("video", "view"): 1}, new_id())
        await open_decisions(dsn).drop(keys[0])
        watch = DeadLetterWatch(pool, Telemetry(NoOpTracer(), provider.get_meter("test"), enabled=True))
        assert read_gauge(reader, catalogue.DEAD_LETTERS_WAITING) == [0]
        with capture_logs() as logs:
            watching = asyncio.create_task(watch.loop.run())

            async def is_counted() -> bool:
                return read_gauge(reader, catalogue.DEAD_LETTERS_WAITING) == [1]

            await eventually(is_counted)
            watching.cancel()
        assert [(log["log_level"], log["waiting"]) for log in logs] == [("warning", 1)]
    provider.shutdown()
