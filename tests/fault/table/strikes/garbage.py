"""A shard that answers entries with garbage, and its health checks well."""

from tests.fault.table.deployment import PARTITIONERS, SHARDS
from tests.fault.table.scene import Scene
from tests.fault.table.ways import variables_of

_OPENED = "circuit breaker changed"


async def answer_with_garbage(scene: Scene) -> None:
    """It is in the list of all, and leads its partitions; every request goes on to the next shard."""
    victim = scene.chance.choice(SHARDS[1:])
    await scene.deployment.kill_into(victim, variables_of(answers_garbage=True))
    try:
        scene.strike()
        await scene.pause(8, 10)
        opened = sum(
            scene.deployment.cluster.log_of(name).read_text().count(_OPENED) for name in PARTITIONERS
        )
        scene.note(f"a circuit breaker changed {opened} times")
        scene.expect_alone(opened > 0, "no partitioner met garbage, so nothing is shown")
    finally:
        await scene.deployment.kill_into(victim, {})
