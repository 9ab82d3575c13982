"""A primary whose commits wait for a standby that does not answer."""

from tests.fault.table.pair import Pair
from tests.fault.table.scene import Scene

_CANCELS = 12


async def cancel_waits(scene: Scene) -> None:
    """Postgres answers a cancelled wait with success and a WARNING: that is no success."""
    pair = _pair_of(scene)
    scene.strike()
    await pair.standby.stop()
    await _cancel_waits(scene, pair)
    await pair.standby.start()


async def lose_primary(scene: Scene) -> None:
    """What was only committed on the primary is gone with it, and none of it was acknowledged."""
    pair = _pair_of(scene)
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
