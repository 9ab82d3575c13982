"""kill -9, and a start a little later."""

from tests.fault.table.deployment import SHARDS
from tests.fault.table.scene import Scene


async def kill_shard(scene: Scene) -> None:
    await scene.pause(0, 1)
    victim = scene.draw_member(SHARDS)
    scene.strike()
    victim.kill()
    await scene.pause(1, 4)
    await victim.start()
