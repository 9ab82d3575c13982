"""What is planned: every process is stopped in order and started again."""

import asyncio
from itertools import zip_longest

from tests.fault.table.deployment import PARTITIONERS, QUERIES, SHARDS
from tests.fault.table.scene import Scene


async def restart_all(scene: Scene) -> None:
    """One of each service at a time; Envoy stays."""
    scene.strike()
    for names in zip_longest(SHARDS, PARTITIONERS, QUERIES):
        await asyncio.gather(*(scene.deployment.cluster.restart(name) for name in names if name))
