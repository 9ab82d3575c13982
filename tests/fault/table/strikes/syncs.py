"""What breaks schedulers and workers in the middle of a run, and the run is judged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fault.table.deployment import SCHEDULERS, WORKERS
from tests.fault.table.scene import Scene
from tests.fault.table.sync import NEEDED_UNITS, SyncRun, open_run

_RUN_SECONDS = 120.0
"""in which a run must end after a fault: the lease of a killed worker lasts 30 s, and the run itself some seconds"""
_LATE_SECONDS = 3.0
"""in which a worker that was frozen may still report"""


async def kill_scheduler(scene: Scene) -> None:
    """One after the other, each in the middle of the run."""
    async with used(scene) as run:
        for name in SCHEDULERS:
            await run.until_calling()
            await scene.pause(0, 1)
            scene.strike()
            scene.deployment.kill(name)
            await scene.deployment.cluster.until_serving()


async def kill_worker(scene: Scene) -> None:
    """While a call of it waits for its answer, or just after."""
    async with used(scene) as run:
        run.allowed_repeats += 1
        await scene.pause(0, 1)
        await run.until_calling()
        scene.strike()
        scene.deployment.kill(scene.chance.choice(WORKERS))


async def kill_all(scene: Scene) -> None:
    """Every scheduler and worker at once: what is left of the run is in Postgres alone."""
    async with used(scene) as run:
        run.allowed_repeats += len(WORKERS)
        await scene.pause(0, 1)
        await run.until_calling()
        scene.strike()
        for name in (*SCHEDULERS, *WORKERS):
            scene.deployment.kill(name)


async def kill_postgres(scene: Scene) -> None:
    """Twice, and started at once: leases, reports and payments break in the middle of a transaction."""
    async with used(scene) as run:
        for _ in range(2):
            await run.until_calling()
            await scene.pause(0, 1)
            scene.strike()
            scene.deployment.postgres.kill()
            await scene.deployment.postgres.start()


async def freeze_worker(scene: Scene) -> None:
    """Until its lease has expired, another worker has its slot, and the run has ended; then it reports."""
    name = scene.chance.choice(WORKERS)
    async with used(scene) as run:
        run.allowed_repeats += 1
        await run.until_calling()
        scene.strike()
        scene.deployment.freeze(name)
        try:
            is_done = await run.until_done(_RUN_SECONDS)
            scene.expect_alone(is_done, f"run {run.run_id} waited for the frozen worker")
        finally:
            scene.deployment.thaw(name)
        await asyncio.sleep(_LATE_SECONDS)


async def freeze_scheduler(scene: Scene) -> None:
    """Whatever locks it holds; workers call the other one."""
    name = scene.chance.choice(SCHEDULERS)
    async with used(scene) as run:
        await run.until_calling()
        await scene.pause(0, 1)
        scene.strike()
        scene.deployment.freeze(name)
        try:
            is_done = await run.until_done(_RUN_SECONDS)
            scene.expect_alone(is_done, f"run {run.run_id} waited for the frozen scheduler")
        finally:
            scene.deployment.thaw(name)
        await asyncio.sleep(_LATE_SECONDS)


@asynccontextmanager
async def used(scene: Scene) -> AsyncIterator[SyncRun]:
    """A run is under way within this block; then it must end, and be right."""
    deployment = scene.deployment
    name = f"round_{scene.prefix.strip('/')}"
    async with open_run(name, deployment.dsn, deployment.doors.door, deployment.api, scene.chance) as run:
        yield run
        if not await run.until_done(_RUN_SECONDS):
            scene.wrong.append(f"run {run.run_id} had not ended {_RUN_SECONDS:g} s after the fault")
        await deployment.cluster.until_serving()
        scene.wrong += await run.check()
        scene.note(f"{run.calls} calls for {NEEDED_UNITS} batches of {name}")
