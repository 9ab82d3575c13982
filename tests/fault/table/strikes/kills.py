"""kill -9; the supervisor starts again what is its own."""

from collections.abc import Sequence

from tests.fault.table.deployment import ENVOY, PARTITIONERS, QUERIES, SHARDS
from tests.fault.table.scene import Scene


async def kill_shard(scene: Scene) -> None:
    await _kill_one(scene, SHARDS)


async def kill_partitioner(scene: Scene) -> None:
    await _kill_one(scene, PARTITIONERS)


async def kill_query(scene: Scene) -> None:
    await _kill_one(scene, QUERIES)


async def kill_envoy(scene: Scene) -> None:
    await _kill_one(scene, [ENVOY])


async def kill_all_services(scene: Scene) -> None:
    """Every process at once; only the servers below stay."""
    await scene.pause(0, 1)
    scene.strike()
    for name in (ENVOY, *SHARDS, *PARTITIONERS, *QUERIES):
        scene.deployment.kill(name)
    await scene.deployment.cluster.until_serving()


async def kill_valkey(scene: Scene) -> None:
    """Twice, and each time it comes back empty."""
    for _ in range(2):
        await scene.pause(0, 1)
        scene.strike()
        scene.deployment.valkey.kill()
        await scene.pause(0.5, 3)
        await scene.deployment.valkey.start()


async def kill_postgres(scene: Scene) -> None:
    """Twice, and started at once."""
    for _ in range(2):
        await scene.pause(0, 1)
        scene.strike()
        scene.deployment.postgres.kill()
        await scene.deployment.postgres.start()


async def take_postgres_away(scene: Scene) -> None:
    """For longer than a call waits."""
    await scene.pause(0, 1)
    scene.strike()
    scene.deployment.postgres.kill()
    await scene.pause(8, 12)
    await scene.deployment.postgres.start()
    scene.expect_spooled()


async def _kill_one(scene: Scene, names: Sequence[str]) -> None:
    await scene.pause(0, 1)
    scene.strike()
    scene.deployment.kill(scene.chance.choice(names))
    await scene.deployment.cluster.until_serving()
