"""The age of the floor, as a metric."""

import asyncpg
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracer

from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from services.counting.recovery.floor_keeper import FloorKeeper
from tests.support.eventually import eventually
from tests.support.gauges import read_gauge


async def test_the_age_of_the_floor_grows_while_nobody_can_look_at_it(dsn: str) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        keeper = FloorKeeper(pool, Telemetry(NoOpTracer(), provider.get_meter("test"), enabled=True))
        assert read_gauge(reader, catalogue.FLOOR_AGE) == []
        await keeper.look()
    with pytest.raises(asyncpg.InterfaceError):
        await keeper.look()
    [found] = read_gauge(reader, catalogue.FLOOR_AGE)
    assert found > 88_000

    async def has_grown() -> bool:
        return read_gauge(reader, catalogue.FLOOR_AGE) > [found]

    await eventually(has_grown, within_seconds=5.0)
    provider.shutdown()
