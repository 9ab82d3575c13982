"""SIGSTOP, and SIGCONT when others have given up waiting."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import asyncpg
import psutil

from tests.fault.table.deployment import PROXIED, SHARDS
from tests.fault.table.scene import Scene

_STATE = "select state from pg_stat_activity where application_name = $1"
_PATIENCE_SECONDS = 60.0
_PAST_TAKEOVER_SECONDS = 14.0
"""a log is taken over when its beat has not moved for 10 s"""


async def freeze_shard(scene: Scene) -> None:
    await scene.pause(0, 1)
    await _freeze_past_takeover(scene, scene.chance.choice(SHARDS))


async def freeze_shard_in_flush(scene: Scene) -> None:
    """Between two statements of its transaction."""
    statements = 0

    def is_time(name: str, data: bytes) -> bool:
        nonlocal statements
        if "counting flushes" not in name:
            return False
        statements = 1 if b"BEGIN" in data else statements + 1
        return statements == 3  # the checkpoint was moved by the one before

    await _freeze_at(scene, is_time, "idle in transaction")


async def freeze_shard_before_answer(scene: Scene) -> None:
    """The insert is on its way; it is committed, and nobody reads the answer."""
    await _freeze_at(scene, lambda name, data: "counting inserts" in name and len(data) > 1000, "idle")


async def freeze_postgres(scene: Scene) -> None:
    """All of its processes: connections stay open, and nothing answers."""
    await scene.pause(0, 1)
    postmaster = psutil.Process(scene.deployment.postgres.pid)
    frozen = [postmaster, *postmaster.children(recursive=True)]
    scene.strike()
    for process in frozen:
        _send(process.pid, signal.SIGSTOP)
    try:
        await scene.pause(6, 9)
    finally:
        for process in frozen:
            _send(process.pid, signal.SIGCONT)


async def _freeze_at(scene: Scene, is_time: Callable[[str, bytes], bool], state: str) -> None:
    """Freeze the shard as it sends something; `state` is what its connection must be found in then."""
    proxy = scene.deployment.proxy
    assert proxy is not None
    frozen = asyncio.Event()
    connections: list[str] = []

    def freeze(name: str, data: bytes) -> None:
        if not frozen.is_set() and is_time(name, data):
            scene.strike()
            scene.deployment.freeze(PROXIED)
            connections.append(name)
            frozen.set()

    proxy.on_request = freeze
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await frozen.wait()
        await asyncio.sleep(1)
        found = await _state_of(scene.deployment.dsn, connections[0])
        scene.expect(found == state, f"the connection of the frozen shard was {found}")
        await asyncio.sleep(_PAST_TAKEOVER_SECONDS)
    finally:
        proxy.on_request = None
        scene.deployment.thaw(PROXIED)


async def _state_of(dsn: str, name: str) -> str | None:
    connection = await asyncpg.connect(dsn)
    try:
        state: str | None = await connection.fetchval(_STATE, name)
        return state
    finally:
        await connection.close()


async def _freeze_past_takeover(scene: Scene, victim: str) -> None:
    scene.strike()
    scene.deployment.freeze(victim)
    try:
        await asyncio.sleep(_PAST_TAKEOVER_SECONDS)
    finally:
        scene.deployment.thaw(victim)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
