"""`python -m loadtests.telemetry`: what metrics and traces cost, as CPU time of client and services in one process.

Two stacks are open side by side, one without telemetry and one with the HTTP endpoint and the default sampling. Rounds
alternate between them, and their order changes, so that both see the same machine; the medians are compared.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from libs.telemetry.settings import TelemetrySettings
from tally.client import Client, Event
from tests.support.servers import fresh_database, name_of, open_servers
from tests.support.stack import open_stack

_ROUNDS = 12
_EVENTS = [Event(f"video {number % 300}") for number in range(1_000)]

Work = Callable[[Client], Awaitable[None]]


async def send_batches(client: Client) -> None:
    """40 requests of 1,000 events, 4 at a time."""

    async def send() -> None:
        for _ in range(10):
            await client.process_many(_EVENTS, timeout=30)

    await asyncio.gather(*(send() for _ in range(4)))


async def send_single(client: Client) -> None:
    """1,600 requests of one event, 32 at a time."""

    async def send() -> None:
        for _ in range(50):
            await client.count("video", request_id=client.make_request_id(), timeout=30)

    await asyncio.gather(*(send() for _ in range(32)))


async def measure(clients: dict[str, Client], work: Work) -> dict[str, float]:
    """The median CPU seconds of a round, by the name of the client."""
    seconds: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(_ROUNDS + 1):
        for name in sorted(clients, reverse=bool(number % 2)):
            gc.collect()
            begun = time.process_time()
            await work(clients[name])
            if number:  # the first is to warm up
                seconds[name].append(time.process_time() - begun)
    return {name: statistics.median(each) for name, each in seconds.items()}


async def main() -> None:
    """Measure both kinds of requests, and print a row for each."""
    kinds = {
        "off": TelemetrySettings(),
        "off again": TelemetrySettings(),
        "on": TelemetrySettings(address="127.0.0.1:0"),
    }
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        servers = await stack.enter_async_context(open_servers())
        clients = {}
        for name, settings in kinds.items():
            template = name_of(servers.postgres_dsn)
            dsn = await stack.enter_async_context(fresh_database(servers.postgres_dsn, template))
            opened = await stack.enter_async_context(
                open_stack(dsn, servers.valkey_url, folder / name, overrides={"telemetry": settings})
            )
            clients[name] = opened.client
        gc.freeze()  # as the services do, which have few objects to look at
        gc.set_threshold(20_000, 10, 10)
        for what, work in (
            ("40 requests of 1,000 events", send_batches),
            ("1,600 requests of one", send_single),
        ):
            found = await measure(clients, work)
            off, again, on = found["off"], found["off again"], found["on"]
            print(
                f"{what}: off {off:.3f} s; off again {again:.3f} s, {again / off:.3f}; on {on:.3f} s, {on / off:.3f}"
            )


if __name__ == "__main__":
    uvloop.run(main())
