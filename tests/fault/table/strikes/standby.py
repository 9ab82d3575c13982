"""A primary whose commits wait for a standby that does not answer."""

import asyncio

import asyncpg

from tests.fault.table.deployment import SHARDS, WORKERS
from tests.fault.table.pair import Pair
from tests.fault.table.scene import Scene
from tests.fault.table.strikes.syncs import used

_CANCELS = 12
_LOST_SECONDS = 180.0
_LOOK_SECONDS = 0.5
_MOST_OF_A_SHARD = 4
"""server processes: two of an attempt to open a log, and the two of the log or the attempt before, while they end"""
_OF_LOGS = """
select count(*) from pg_stat_activity
where application_name like 'tally counting inserts %' or application_name like 'tally counting flushes %'"""


async def cancel_waits(scene: Scene) -> None:
    """Postgres answers a cancelled wait with success and a WARNING: that is no success."""
    pair = _pair_of(scene)
    scene.strike()
    await pair.standby.stop()
    await _cancel_waits(scene, pair)
    await pair.standby.start()


async def lose_standby(scene: Scene) -> None:
    """For three minutes, in which the server must not fill up with processes that wait for it."""
    pair = _pair_of(scene)
    connection = await asyncpg.connect(pair.primary.url)
    try:
        scene.strike()
        await pair.standby.stop()
        most, end = 0, asyncio.get_running_loop().time() + _LOST_SECONDS
        while asyncio.get_running_loop().time() < end:
            most = max(most, await connection.fetchval(_OF_LOGS))
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await connection.close()
        await pair.standby.start()
    scene.note(f"at most {most} server processes of logs")
    scene.expect(most <= _MOST_OF_A_SHARD * len(SHARDS), f"{most} server processes of logs")
    scene.expect_spooled()
    await scene.deployment.cluster.until_serving()


async def lose_primary(scene: Scene) -> None:
    """What was only committed on the primary is gone with it, and none of it was acknowledged: events, or outcomes."""
    pair = _pair_of(scene)
    async with used(scene) as run:
        run.allowed_repeats += len(WORKERS)  # the outcome of a call may be lost with the primary for so long
        scene.strike()
        await pair.standby.stop()
        await _cancel_waits(scene, pair)
        pair.primary.kill()
        await pair.standby.start()
        await pair.standby.promote()
        await scene.deployment.cluster.until_serving()


async def _cancel_waits(scene: Scene, pair: Pair) -> None:
    cancelled = 0
    for _ in range(_CANCELS):
        await scene.pause(0.2, 0.8)
        cancelled += await pair.cancel_waits()
    scene.note(f"{cancelled} waits for the standby cancelled")
    scene.expect_alone(cancelled > 0, "no commit waited for the standby, so nothing is shown")


def _pair_of(scene: Scene) -> Pair:
    assert scene.deployment.pair is not None
    return scene.deployment.pair
