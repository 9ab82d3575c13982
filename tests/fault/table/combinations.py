"""Several faults at the same time: only the invariants hold then, and nobody promises how soon it is over."""

import asyncio
import random
from collections.abc import Sequence

from tests.fault.table.scene import Fault, Scene

_MOST = 3
_APART_SECONDS = 4.0


def draw_combination(faults: Sequence[Fault], chance: random.Random) -> Fault:
    """One to three faults that break different things, begun within a few seconds of each other."""
    chosen: list[Fault] = []
    for fault in chance.sample(faults, min(chance.randint(1, _MOST), len(faults))):
        if not any(fault.breaks & other.breaks for other in chosen):
            chosen.append(fault)
    return combine(chosen)


def combine(faults: Sequence[Fault]) -> Fault:
    """The faults as one."""

    async def run(scene: Scene) -> None:
        scene.is_alone = len(faults) == 1

        async def run_one(fault: Fault) -> None:
            await scene.pause(0, _APART_SECONDS)
            await fault.run(scene)

        # To its end, even where another has gone wrong: each mends what it has broken.
        ends = await asyncio.gather(*(run_one(fault) for fault in faults), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    breaks = frozenset[str]().union(*(fault.breaks for fault in faults))
    return Fault(" + ".join(fault.name for fault in faults), run, breaks)
