"""A spool whose disk is full."""

from tests.fault.table.deployment import SHARDS
from tests.fault.table.scene import Scene
from tests.fault.table.ways import variables_of

_RESERVE_BYTES = 2 * 1024**2
_MAX_BYTES = 8 * _RESERVE_BYTES
_DISK_BYTES = _RESERVE_BYTES + 512 * 1024
_DRAIN_SECONDS = 45.0


async def fill_spool(scene: Scene) -> None:
    """Postgres is unreachable until one shard has nowhere to write; then it refuses, and loses nothing that it took."""
    victim = scene.chance.choice(SHARDS[1:])
    folder = scene.deployment.folder / "small disk"
    folder.mkdir(exist_ok=True)
    await scene.deployment.kill_into(
        victim,
        {
            **variables_of(disk=(folder, _DISK_BYTES)),
            "TALLY_COUNTING__SPOOL__FOLDER": str(folder),
            "TALLY_COUNTING__SPOOL__MAX_BYTES": str(_MAX_BYTES),  # of which an eighth is its reserve
        },
    )
    try:
        scene.strike()
        scene.deployment.postgres.kill()
        await scene.pause(14, 16)
        await scene.deployment.postgres.start()
        scene.expect_spooled()
        full = "disk is full" in scene.deployment.cluster.log_of(victim).read_text()
        scene.expect_alone(full, "the disk was never full, so nothing is shown")
        await scene.deployment.cluster.until_serving()
        await scene.watch.until_quiet(_DRAIN_SECONDS)
        scene.expect(scene.watch.is_quiet, f"the spools were not empty after {_DRAIN_SECONDS:g} s")
    finally:
        await scene.deployment.kill_into(victim, {})
