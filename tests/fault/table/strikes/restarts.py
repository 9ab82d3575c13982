"""What is planned: every process is stopped in order and started again, one after the other."""

from tests.fault.table.deployment import PARTITIONERS, QUERIES, SHARDS
from tests.fault.table.scene import Scene


async def restart_all(scene: Scene) -> None:
    scene.strike()
    for name in (*SHARDS, *PARTITIONERS, *QUERIES):
        await scene.deployment.cluster.restart(name)
