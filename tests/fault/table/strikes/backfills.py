"""What breaks a backfill in the middle of its repositories; then the dataset and the counts are compared with them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fault.table.deployment import BACKFILL, SCHEDULERS, WORKERS
from tests.fault.table.repos import ACCOUNTS, BackfillRun, open_backfill
from tests.fault.table.scene import Scene

_JOB_SECONDS = 150.0
"""in which a job must end after a fault: leases last 30 s, and an account is tried again after as long"""
_BEGUN, _MIDWAY = 0.05, 0.3
"""shares of the repositories that were asked for"""


async def kill_worker(scene: Scene) -> None:
    """Twice, in the middle of repositories: some are verified and not stored."""
    async with used(scene) as run:
        for share in (_BEGUN, _MIDWAY):
            await run.until_fetching(share)
            await scene.pause(0, 0.5)
            scene.strike()
            scene.deployment.kill(scene.chance.choice(WORKERS))
            await scene.deployment.cluster.until_serving()


async def kill_coordinator(scene: Scene) -> None:
    """The process that resolves, takes deliveries and counts."""
    async with used(scene) as run:
        for share in (_BEGUN, _MIDWAY):
            await run.until_fetching(share)
            await scene.pause(0, 0.5)
            scene.strike()
            scene.deployment.kill(BACKFILL)
            await scene.deployment.cluster.until_serving()


async def kill_all(scene: Scene) -> None:
    """Coordinator, workers and schedulers at once."""
    async with used(scene) as run:
        await run.until_fetching(_MIDWAY)
        scene.strike()
        for name in (BACKFILL, *WORKERS, *SCHEDULERS):
            scene.deployment.kill(name)
        await scene.deployment.cluster.until_serving()


async def kill_postgres(scene: Scene) -> None:
    """Twice, and started at once: deliveries and reports break in the middle of a transaction."""
    async with used(scene) as run:
        for share in (_BEGUN, _MIDWAY):
            await run.until_fetching(share)
            await scene.pause(0, 0.5)
            scene.strike()
            scene.deployment.postgres.kill()
            await scene.deployment.postgres.start()


async def take_object_store_away(scene: Scene) -> None:
    """Its folder is a file for a while, so that no part can be written or read."""
    folder = scene.deployment.objects
    aside = folder.with_name("objects.aside")
    async with used(scene) as run:
        await run.until_fetching(_BEGUN)
        scene.strike()
        folder.rename(aside)
        folder.touch()
        try:
            await scene.pause(8, 10)
            log = "".join(scene.deployment.cluster.log_of(name).read_text() for name in WORKERS)
            scene.expect_alone("accounts not delivered; will retry" in log, "no worker met the broken store")
        finally:
            folder.unlink()
            aside.rename(folder)


@asynccontextmanager
async def used(scene: Scene) -> AsyncIterator[BackfillRun]:
    """A backfill is under way within this block; then it must end, and be right."""
    deployment, name = scene.deployment, f"round-{scene.prefix.strip('/')}"
    async with open_backfill(
        name,
        deployment.dsn,
        deployment.doors.door,
        deployment.network,
        deployment.objects,
        scene.chance,
    ) as run:
        yield run
        if not await run.until_done(_JOB_SECONDS):
            scene.wrong.append(f"{name} was not done {_JOB_SECONDS:g} s after the fault")
        await deployment.cluster.until_serving()
        scene.wrong += await run.check()
        scene.note(f"{run.calls} fetches of {ACCOUNTS} repositories, {run.own.truth.total()} events")
