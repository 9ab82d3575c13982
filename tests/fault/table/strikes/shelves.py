"""What breaks the catalog, while somebody writes, hides and finds there, too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fault.table.deployment import CATALOGS
from tests.fault.table.scene import Scene
from tests.fault.table.shelf import Shelf, open_shelf


async def kill_catalog(scene: Scene) -> None:
    """kill -9 of one process after the other; PutRules waits for each until it must be stale."""
    async with _used(scene):
        for name in CATALOGS:
            await scene.pause(0.5, 2)
            scene.strike()
            scene.deployment.kill(name)
            await scene.deployment.cluster.until_serving()
            await scene.pause(1, 2)


async def freeze_catalog(scene: Scene) -> None:
    """Past the moment at which PutRules returns without the frozen process."""
    name = scene.chance.choice(CATALOGS)
    async with _used(scene) as shelf:
        await scene.pause(0.5, 2)
        scene.strike()
        scene.deployment.freeze(name)
        hidden = next(iter(shelf.items))
        other = shelf.processes[1 - CATALOGS.index(name)]
        answer = await other.catalog.put_rules(hidden, shelf.denial, timeout=90.0)
        scene.expect_alone(answer.stale_replicas > 0, "PutRules did not have to wait for the frozen process")
        shelf.note_hidden(hidden)
        scene.deployment.thaw(name)
        await scene.pause(1, 2)


async def wipe_valkey(scene: Scene) -> None:
    """FLUSHALL, again and again: the projection is built anew, and finds feel nothing of it."""
    async with _used(scene) as shelf:
        scene.strike()
        for _ in range(5):
            await scene.pause(0.2, 1)
            await scene.deployment.wipe_valkey()
        await scene.pause(1, 2)
        scene.expect_alone(not shelf.failures, f"no call may fail, and some did: {dict(shelf.failures)}")


@asynccontextmanager
async def _used(scene: Scene) -> AsyncIterator[Shelf]:
    deployment = scene.deployment
    addresses = [place.address for place in deployment.cluster.topology.of("catalog")]
    name = scene.prefix.strip("/")
    async with open_shelf(name, scene.chance, [deployment.doors.door], addresses) as shelf:
        async with shelf.running():
            yield shelf
        scene.wrong += await shelf.check()
        scene.note(f"{shelf.finds} finds, {sum(shelf.failures.values())} calls to the catalog failed")
