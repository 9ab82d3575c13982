"""Every process is started again: in order, as planned, or at a bad moment."""

import asyncio
from itertools import zip_longest

from services.devcluster.children import takes_calls
from tally.client import Durability
from tests.fault.table.deployment import PARTITIONERS, QUERIES, SHARDS
from tests.fault.table.scene import Scene
from tests.support.eventually import eventually
from tests.support.reach import channel_tls

_BACK_SECONDS = 60.0


async def restart_all(scene: Scene) -> None:
    """One of each service at a time; Envoy stays."""
    scene.strike()
    for names in zip_longest(SHARDS, PARTITIONERS, QUERIES):
        await asyncio.gather(*(scene.deployment.cluster.restart(name) for name in names if name))


async def restart_without_postgres(scene: Scene) -> None:
    """Postgres is unreachable, and whatever takes writes comes back without it."""
    cluster = scene.deployment.cluster
    writers = [place for service in ("counting", "partitioner") for place in cluster.topology.of(service)]
    await scene.pause(0, 1)
    scene.strike()
    scene.deployment.postgres.kill()
    try:
        await scene.pause(3, 5)
        before = {place.name: cluster.processes[place.name].restarts for place in writers}
        for name in (*SHARDS, *PARTITIONERS, *QUERIES):
            scene.deployment.kill(name)

        async def are_back() -> bool:
            is_new = all(cluster.processes[name].restarts > restarts for name, restarts in before.items())
            return is_new and all(
                await asyncio.gather(*(takes_calls(place, channel_tls()) for place in writers))
            )

        await eventually(are_back, _BACK_SECONDS)
        back_at = asyncio.get_running_loop().time()
        await scene.pause(4, 6)
    finally:
        await scene.deployment.postgres.start()
    spooled = sum(
        one.durability is Durability.SPOOLED and one.sent_at > back_at for one in scene.load.answered
    )
    scene.note(f"{spooled} receipts SPOOLED after the restart")
    scene.expect(spooled > 0, "no receipt said SPOOLED after the restart")
    await cluster.until_serving()
