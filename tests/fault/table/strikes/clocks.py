"""A shard whose machine has the wrong time, and a Postgres that has."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import grpc

from libs.rpc.probe import is_serving
from tally.contract.request_id import HORIZON_MS, time_ms_of
from tally.counting.v1 import counting_pb2 as pb
from tests.fault.table.deployment import PARTITIONERS, SHARDS
from tests.fault.table.requests import draw_request
from tests.fault.table.scene import Scene
from tests.fault.table.strikes.rivals import acknowledge, append, entries_of
from tests.fault.table.ways import variables_of
from tests.support.eventually import eventually
from tests.support.glitch import install_glitch, remove_glitch, set_clock
from tests.support.processes import free_port
from tests.support.reach import channel_tls, open_channel, variables
from tests.support.rollups import read_rollups

_AHEAD_SECONDS = 25 * 3600
_JUMP_SECONDS = 40 * 86_400.0
_MOST_RAISED_MS = 3_600_000
_REQUESTS = 60
_SERVICE = "tally.counting.v1.CountingService"

_NOW = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"
_LATEST_RECEIPT = "select (extract(epoch from max(received_at)) * 1000)::bigint from counting.journal"
_FLOOR = "select floor from public.cluster"


async def run_ahead(scene: Scene) -> None:
    """A fourth shard, 25 h ahead. It is never ready, and what it is sent all the same it counts for today."""
    address = f"127.0.0.1:{free_port()}"
    process = await _start(scene, address)
    try:
        async with open_channel(address) as channel:
            await _until_taking(scene, channel)
            scene.strike()
            for _ in range(_REQUESTS):
                request = draw_request(scene.chance, scene.prefix)
                scene.load.ledger.send(request)
                entries = entries_of(request, scene.deployment.doors.partition_count)
                outcomes = await append(channel, entries)
                acknowledge(scene, [request], entries, [[outcome] for outcome in outcomes])
                scene.expect_alone(bool(request.durability), "it did not take a sound request")
                await scene.pause(0, 0.2)
        scene.expect(not await is_serving(address, _SERVICE, 2.0, channel_tls()), "it says that it is ready")
        process.terminate()
        await asyncio.to_thread(process.wait, 60)
    finally:
        process.kill()
        process.wait()
    await _look_at_times(scene)


async def jump(scene: Scene) -> None:
    """Postgres's clock is 40 days ahead for some seconds, and a shard is started just then."""
    connection = await asyncpg.connect(scene.deployment.dsn)
    cluster = scene.deployment.cluster
    try:
        await install_glitch(connection)
        for name in (*SHARDS, *PARTITIONERS):  # their connections are to have the clock that can be set
            scene.deployment.kill(name)
        await cluster.until_serving()
        before = time_ms_of(await connection.fetchval(_FLOOR))
        scene.strike()
        await set_clock(connection, _JUMP_SECONDS)
        scene.deployment.kill(scene.chance.choice(SHARDS))
        await scene.pause(7, 10)
        await set_clock(connection, 0.0)
        await cluster.until_serving()
        raised_ms = time_ms_of(await connection.fetchval(_FLOOR)) - before
        scene.expect(raised_ms <= _MOST_RAISED_MS, f"the floor rose by {raised_ms} ms")
    finally:
        await set_clock(connection, 0.0)
        await remove_glitch(connection)
        await connection.close()


async def _look_at_times(scene: Scene) -> None:
    """Everything in the database goes by Postgres's clock."""
    connection = await asyncpg.connect(scene.deployment.dsn)
    try:
        latest_minute = max(key.minute for key in await read_rollups(connection))
        latest_receipt_ms = await connection.fetchval(_LATEST_RECEIPT)
        now_ms = await connection.fetchval(_NOW)  # after the others: more is counted meanwhile
        scene.expect(latest_minute <= now_ms // 60_000, f"an event is counted for the minute {latest_minute}")
        scene.expect(
            latest_receipt_ms <= now_ms, f"an entry was received {latest_receipt_ms - now_ms} ms from now"
        )
        floor_ms = time_ms_of(await connection.fetchval(_FLOOR))
        scene.expect(floor_ms <= now_ms - HORIZON_MS, f"the floor rose to {now_ms - floor_ms} ms before now")
    finally:
        await connection.close()


async def _start(scene: Scene, address: str) -> "subprocess.Popen[bytes]":
    settings = {
        "TALLY_DATA_DIR": str(scene.deployment.folder / "ahead"),
        "TALLY_SERVER__ADDRESS": address,
        "TALLY_POSTGRES__DSN": scene.deployment.dsn,
        "TALLY_VALKEY__URL": scene.deployment.valkey.url,
        "TALLY_COUNTING__SHARD": "ahead",
        **variables(),
        **variables_of(clock_ahead_seconds=_AHEAD_SECONDS),
    }
    with (scene.deployment.folder / "ahead.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "services", "counting"],
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


async def _until_taking(scene: Scene, channel: grpc.aio.Channel) -> None:
    """Health would not do: a shard with such a clock may well say that it is not ready."""
    request = draw_request(scene.chance, scene.prefix)
    scene.load.ledger.send(request)
    entries = entries_of(request, scene.deployment.doors.partition_count)

    async def is_taking() -> bool:
        outcomes = await append(channel, entries)
        return pb.OUTCOME_UNAVAILABLE not in outcomes

    await eventually(is_taking, 60.0)
