"""The metrics of a process as a whole: CPU, memory, its event loop, its pool, and the bounds of its servers."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psutil
from opentelemetry.metrics import Meter, Observation

from libs.rpc.server import OpenServer
from libs.rpc.tracing import method_attributes
from libs.telemetry import catalogue

_INTERVAL_SECONDS = 0.5


def observe_process(meter: Meter, pool: Any) -> None:
    """Report what the process takes, at each export."""
    process = psutil.Process()
    catalogue.observe(meter, catalogue.PROCESS_CPU, time.process_time)
    catalogue.observe(meter, catalogue.PROCESS_MEMORY, lambda: process.memory_info().rss)
    catalogue.observe(meter, catalogue.PROCESS_FILES, process.num_fds)
    catalogue.observe(
        meter, catalogue.POSTGRES_POOL, lambda: (pool.get_size() - pool.get_idle_size()) / pool.get_max_size()
    )


def observe_servers(meter: Meter, servers: Sequence[OpenServer]) -> None:
    """Report the calls that are being answered, and how full the bounds are, each of the server where it is fullest."""

    def count() -> list[Observation]:
        calls: Counter[str] = Counter()
        for server in servers:
            calls.update(server.in_flight)
        return [Observation(number, method_attributes(method)) for method, number in calls.items()]

    def read() -> list[Observation]:
        fullest: dict[str, float] = {}
        for server in servers:
            for resource, part in server.saturation().items():
                fullest[resource] = max(part, fullest.get(resource, 0.0))
        return [Observation(part, {"resource": resource}) for resource, part in fullest.items()]

    catalogue.observe(meter, catalogue.RPC_SERVER_IN_FLIGHT, count)
    catalogue.observe(meter, catalogue.RPC_SERVER_SATURATION, read)


async def measure_loop(meter: Meter) -> None:
    """Record how late the event loop is, until cancelled."""
    delay = catalogue.histogram(meter, catalogue.EVENT_LOOP_DELAY)
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _INTERVAL_SECONDS
        await asyncio.sleep(_INTERVAL_SECONDS)
        delay.record(max(0.0, loop.time() - due))
