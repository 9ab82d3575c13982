"""A state machine: whatever is journaled, flushed, sealed, merged, rolled up or cut off, reads say what was sent."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from libs.domain import blocks
from libs.domain.minutes import MinuteRange
from services.counting.generations import sealing
from tests.support.eventually import eventually
from tests.support.mortal import Killed, MortalPool
from tests.support.proof import find_wrong, is_applied
from tests.support.servers import Servers, fresh_database
from tests.support.upkeep import World, merger_of, minute_row, open_world, roll_up_of, sealing_of

pytestmark = pytest.mark.exact

DAY = 1_440 * 20_000
MINUTES = st.one_of(
    st.integers(DAY - 70, DAY + 70), st.integers(DAY, DAY + 4_400), st.integers(DAY - 3_000_000, DAY)
)
VIDEOS, TYPES = st.sampled_from(["a", "b", "é", "🎬", "hot"]), st.sampled_from(["view", "watched"])
VALUES = st.none() | st.integers(-1_000, 1_000).map(float) | st.floats(-1e6, 1e6)
ROWS = st.lists(st.builds(minute_row, VIDEOS, TYPES, MINUTES, VALUES), min_size=1, max_size=20)
STATEMENTS = st.none() | st.integers(0, 25)
"""After so many the process is killed."""
_WORKS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "seal": lambda pool: sealing_of(pool).seal_due(),
    "roll up": lambda pool: roll_up_of(pool).roll_up_all(),
    "merge": lambda pool: merger_of(pool).merge_all(),
}


class Machine(RuleBasedStateMachine):
    """A world with a database of its own, and upkeep that may be killed anywhere."""

    def __init__(self, servers: Servers, template: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opening = fresh_database(servers.postgres_dsn, template)
        self.world: World = self.runner.run(self.open())

    async def open(self) -> World:
        return await open_world(await self.opening.__aenter__())

    @rule(rows=ROWS, place=st.integers(0, 3))
    def journal(self, rows: Any, place: int) -> None:
        log = self.world.logs[place % len(self.world.logs)]
        self.runner.run(self.world.journal(log, rows))

    @rule(place=st.integers(0, 3))
    def flush(self, place: int) -> None:
        self.runner.run(self.world.flush(self.world.logs[place % len(self.world.logs)]))

    @rule()
    def open_log(self) -> None:
        if len(self.world.logs) < 4:
            self.runner.run(self.world.open_log())

    @rule(work=st.sampled_from(sorted(_WORKS)), statements=STATEMENTS)
    def keep(self, work: str, statements: int | None) -> None:
        self.runner.run(self.run_until_killed(work, statements))

    async def run_until_killed(self, work: str, statements: int | None) -> None:
        connection = await asyncpg.connect(self.world.dsn)
        pid = connection.get_server_pid()
        try:
            await _WORKS[work](MortalPool(connection, 10_000 if statements is None else statements))
        except (Killed, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
            assert statements is not None
        connection.terminate()

        async def is_gone() -> bool:
            found = "select count(*) from pg_stat_activity where pid = $1"
            return not await self.world.database.fetchval(found, pid)

        await eventually(is_gone)

    @rule(video=VIDEOS, event_type=TYPES, start=st.none() | MINUTES, end=st.none() | MINUTES)
    def read(self, video: str, event_type: str, start: int | None, end: int | None) -> None:
        if start is not None and end is not None and start > end:
            start, end = end, start
        self.runner.run(self.world.assert_reads(video, event_type, MinuteRange(start, end)))

    def teardown(self) -> None:
        self.runner.run(self.close())
        self.runner.close()

    async def close(self) -> None:
        world = self.world
        for log in world.logs:
            await world.flush(log)
        assert await is_applied(world.database)
        assert await find_wrong(world.database) == []
        for video in ("a", "hot"):
            await world.assert_reads(video, "view", MinuteRange())
        await world.database.close()
        await self.opening.__aexit__(None, None, None)


def test_reads_say_what_was_sent_whatever_upkeep_does(
    servers: Servers, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 3)
    monkeypatch.setattr(blocks, "VALUED_BLOCK_CELLS", 3)
    monkeypatch.setattr(sealing, "_WAIT", "set local lock_timeout = 100")
    make: Any = lambda: Machine(servers, template)  # noqa: E731 - its type names a class, and a function will do
    run_state_machine_as_test(
        make,
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # to shrink a failure would take minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
