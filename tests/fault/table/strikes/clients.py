"""A client that is killed and started again on what it wrote down."""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fault.table.ledger import read_ledger
from tests.fault.table.scene import Scene
from tests.support.eventually import eventually

_KILLS = 4


async def kill_client(scene: Scene) -> None:
    """What lay in the buffer of the library is declared lost, and nothing else: every request that it began has a
    receipt.
    """
    with tempfile.TemporaryDirectory(prefix="tally-client-") as folder:
        ledger = Path(folder) / "ledger"
        scene.strike()
        for _ in range(_KILLS):
            process = _start(scene, ledger)
            try:
                await _until_acknowledged(ledger)
                await scene.pause(0.5, 2)
            finally:
                process.kill()
                process.wait()
        process = _start(scene, ledger)
        try:
            await _until_acknowledged(ledger)
            process.terminate()
            scene.expect(await asyncio.to_thread(process.wait, 60) == 0, "the client did not end in order")
        finally:
            process.kill()
        kept = read_ledger(ledger)
    sent = len(kept.ledger.requests)
    scene.note(f"{kept.lost.total()} events declared lost, {sent} requests of the killed client")
    scene.expect_alone(kept.lost.total() > 0, "no buffer was lost, so nothing is shown")
    scene.expect(
        not kept.ledger.unknown, f"{len(kept.ledger.unknown)} of the client's requests have no receipt"
    )
    scene.load.ledger.merge(kept.ledger)


async def _until_acknowledged(ledger: Path) -> None:
    """Wait until the client that was just started has its first receipt."""
    before = len(read_ledger(ledger).ledger.acknowledged)

    async def has_more() -> bool:
        return len(read_ledger(ledger).ledger.acknowledged) > before

    await eventually(has_more, 60.0)


def _start(scene: Scene, ledger: Path) -> "subprocess.Popen[bytes]":
    arguments = (
        str(ledger),
        scene.deployment.doors.door,
        f"{scene.prefix}client ",
        str(scene.chance.randrange(10**6)),
    )
    return subprocess.Popen([sys.executable, "-m", "tests.fault.table.sender", *arguments])  # noqa: S603 - ours
