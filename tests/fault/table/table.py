"""One fault after the other, or random combinations of them; the seed decides all that is chosen."""

import random
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console

from tests.fault.table import regions
from tests.fault.table.combinations import combine, draw_combination
from tests.fault.table.deployment import Deployment, open_deployment
from tests.fault.table.faults import FAULTS, PAIR_FAULTS
from tests.fault.table.load import Pace
from tests.fault.table.round import Row, run_round
from tests.fault.table.scene import Fault

_COMBINATIONS = 8
"""rounds on one deployment"""


class Table:
    """Runs rounds and keeps their rows."""

    def __init__(self, console: Console, folder: Path, seed: int) -> None:
        """`folder` is for the logs of the processes."""
        self.rows: list[Row] = []
        self._console = console
        self._folder = folder
        self._seed = seed
        self._chance = random.Random(seed)
        self._deployments = 0

    async def run_all(self, only: str = "") -> None:
        """Every fault whose name contains `only`."""
        for is_pair, faults in ((False, FAULTS), (True, PAIR_FAULTS)):
            chosen = [fault for fault in faults if only in fault.name]
            if chosen:
                async with self._deployed(is_pair=is_pair) as deployment:
                    for fault in chosen:
                        # By the name, so that a fault alone does as it does among the others.
                        await self._run(fault, deployment, random.Random(f"{self._seed} {fault.name}"))
        if only in regions.NAME:
            await self._run_regions()

    async def run_combinations(self, minutes: float) -> None:
        """Random combinations until the time is over; what has begun is ended."""
        end = time.monotonic() + minutes * 60
        cancelled_waits, *_, lost_primary = PAIR_FAULTS
        others = [fault for fault in FAULTS if not fault.needs_proxy and "postgres" not in fault.breaks]
        while time.monotonic() < end:
            async with self._deployed() as deployment:
                for _ in range(_COMBINATIONS):
                    if time.monotonic() < end:
                        await self._run_some(draw_combination(FAULTS, self._chance), deployment)
            if time.monotonic() < end:
                async with self._deployed(is_pair=True) as deployment:
                    for fault in (cancelled_waits, lost_primary):  # the second is the end of the primary
                        await self._run_some(combine([fault, self._chance.choice(others)]), deployment)

    @asynccontextmanager
    async def _deployed(self, *, is_pair: bool = False) -> AsyncIterator[Deployment]:
        on = "a Postgres primary and its standby" if is_pair else "Postgres"
        self._console.print(f"starting {on}, Valkey, the services and Envoy")
        self._deployments += 1
        async with open_deployment(
            self._folder / f"deployment-{self._deployments}", is_pair=is_pair
        ) as deployment:
            yield deployment

    async def _run_some(self, combination: Fault, deployment: Deployment) -> None:
        await self._run(combination, deployment, random.Random(self._chance.random()))

    async def _run_regions(self) -> None:
        """The line of two regions, which are a deployment of their own."""
        self._console.print("starting two regions")
        chance = random.Random(f"{self._seed} {regions.NAME}")
        await self._note(regions.NAME, regions.run_regions(self._folder / "regions", chance))

    async def _run(self, fault: Fault, deployment: Deployment, chance: random.Random) -> None:
        await self._note(fault.name, run_round(fault, deployment, len(self.rows) + 1, chance, Pace()))

    async def _note(self, name: str, running: Awaitable[Row]) -> None:
        self._console.print(f"{len(self.rows) + 1:3}  {name} … ", end="")
        began = time.monotonic()
        row = await running
        self.rows.append(row)
        verdict = "[red]BROKEN[/red]" if row.wrong else "holds"
        self._console.print(f"{verdict}, {time.monotonic() - began:.0f} s")
        for sentence in row.wrong:
            self._console.print(f"     {sentence}", style="red", markup=False)
