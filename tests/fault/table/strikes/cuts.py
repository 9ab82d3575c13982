"""Connections between a shard and Postgres that end at the worst moment."""

from tests.fault.table.scene import Scene
from tests.support.proxy import Cut

_CUTS = 12


async def cut_commits(scene: Scene) -> None:
    """In the middle of a commit: before the server gets it, or before the shard gets the answer."""
    proxy = scene.deployment.proxy
    assert proxy is not None
    before = proxy.cut_count

    def cut_commit_of_flush(name: str, data: bytes) -> None:
        if "counting flushes" in name and b"COMMIT" in data and scene.chance.random() < 0.5:
            proxy.cuts[name] = scene.chance.choice(list(Cut))

    proxy.on_request = cut_commit_of_flush
    scene.strike()
    try:
        for _ in range(_CUTS):
            # An insert is its own commit.
            proxy.cuts["counting inserts"] = scene.chance.choice(list(Cut))
            await scene.pause(0.2, 1.2)
    finally:
        proxy.on_request = None
        proxy.cuts.clear()
    cuts = proxy.cut_count - before
    scene.note(f"{cuts} connections cut")
    scene.expect_alone(cuts >= _CUTS / 2, f"only {cuts} connections were cut")
