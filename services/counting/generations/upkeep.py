"""The loop in which a shard seals generations and rolls them up."""

from typing import Any

from libs.runtime.loop import Loop
from libs.telemetry.setup import Telemetry
from services.counting.generations.rolling import RollUp
from services.counting.generations.sealing import Sealing
from services.counting.settings import CountingSettings

_INTERVAL_SECONDS, _DEADLINE_SECONDS = 10.0, 600.0


def generations_loop(pool: Any, settings: CountingSettings, telemetry: Telemetry) -> Loop:
    """Seals what is due, and rolls up what is sealed."""
    sealing = Sealing(pool, settings.generations)
    roll_up = RollUp(pool, settings.flush, settings.recovery)

    async def keep() -> None:
        await sealing.seal_due()
        await roll_up.roll_up_all()

    return Loop(
        "generations",
        keep,
        interval_seconds=_INTERVAL_SECONDS,
        deadline_seconds=_DEADLINE_SECONDS,
        telemetry=telemetry,
    )
