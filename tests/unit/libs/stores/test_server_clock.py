"""Postgres's clock as a service sees it, between two readings."""

from collections.abc import Sequence

import pytest

from libs.stores import server_clock
from libs.stores.server_clock import ServerClock
from tally.contract.errors import NotReady

POSTGRES_US = 1_800_000_000_000_000


class Machine:
    """The machine's clocks, and a connection on which a question takes its time."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.suspended_seconds = 0.0
        self.way_seconds: Sequence[float] = (0.0, 0.0)
        self.readings = 0
        self.postgres_ahead_us = POSTGRES_US - 50_000_000

    def monotonic(self) -> float:
        return self.seconds - self.suspended_seconds

    def clock_gettime(self, _clock: int) -> float:
        return self.seconds

    @property
    def postgres_us(self) -> int:
        return self.postgres_ahead_us + round(self.seconds * 1_000_000)

    async def fetchval(self, _statement: str) -> int:
        self.readings += 1
        there, back = self.way_seconds
        self.seconds += there
        answer = self.postgres_us
        self.seconds += back
        return answer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(server_clock, "time", made)
    return made


async def test_it_goes_on_from_the_last_reading(machine: Machine) -> None:
    clock = ServerClock()
    await clock.read(machine)
    assert clock.now_us() == POSTGRES_US
    machine.seconds += 12.5
    assert clock.now_us() == POSTGRES_US + 12_500_000 == machine.postgres_us


async def test_it_goes_on_while_the_machine_is_suspended(machine: Machine) -> None:
    clock = ServerClock()
    await clock.read(machine)
    machine.seconds += 8 * 3600.0
    machine.suspended_seconds = 8 * 3600.0
    assert clock.now_us() == machine.postgres_us


@pytest.mark.parametrize("way", [(0.0, 0.4), (0.4, 0.0), (0.1, 0.3)])
async def test_it_is_never_ahead_and_behind_by_no_more_than_it_says(
    machine: Machine, way: tuple[float, float]
) -> None:
    clock = ServerClock()
    machine.way_seconds = way
    await clock.read(machine)
    behind_us = machine.postgres_us - clock.now_us()
    assert clock.uncertainty_seconds == pytest.approx(0.4)
    assert behind_us == pytest.approx(way[1] * 1_000_000, abs=2)
    assert 0 <= behind_us + 1 <= clock.uncertainty_seconds * 1_000_000 + 2


async def test_a_clock_that_was_set_is_followed_at_the_next_reading(machine: Machine) -> None:
    clock = ServerClock()
    await clock.read(machine)
    machine.postgres_ahead_us += 3_000_000
    machine.seconds += 1
    assert clock.now_us() == machine.postgres_us - 3_000_000
    await clock.read(machine)
    assert clock.now_us() == machine.postgres_us


async def test_a_reading_that_fails_leaves_the_last_one(machine: Machine) -> None:
    clock = ServerClock()
    await clock.read(machine)

    class Away:
        async def fetchval(self, _statement: str) -> int:
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await clock.read(Away())
    machine.seconds += 1
    assert clock.now_us() == machine.postgres_us


async def test_a_reading_from_before_a_freeze_is_taken_again(machine: Machine) -> None:
    clock = ServerClock()

    class FrozenOnce:
        async def fetchval(self, statement: str) -> int:
            answer = await machine.fetchval(statement)
            machine.seconds += 300.0 if machine.readings == 1 else 0.0
            return answer

    await clock.read(FrozenOnce())
    assert machine.readings == 2
    assert clock.now_us() == machine.postgres_us
    assert clock.uncertainty_seconds == 0.0


async def test_when_every_reading_takes_too_long_the_former_one_stays(machine: Machine) -> None:
    clock = ServerClock()
    await clock.read(machine)
    machine.way_seconds = (0.0, 1.5)
    await clock.read(machine)
    assert clock.now_us() == machine.postgres_us
    assert clock.uncertainty_seconds == 0.0


async def test_without_any_reading_there_is_no_time_to_tell(machine: Machine) -> None:
    machine.way_seconds = (1.01, 0.0)
    with pytest.raises(NotReady, match="more than 1 s to say what time it is, 5 times"):
        await ServerClock().read(machine)


class Wall:
    """The machine's clock, `ahead` seconds of Postgres's."""

    def __init__(self, machine: Machine, ahead: float) -> None:
        self._machine = machine
        self.ahead = ahead

    def __call__(self) -> float:
        return self._machine.postgres_us / 1_000_000 + self.ahead


@pytest.mark.parametrize("way", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.25, 0.25)])
@pytest.mark.parametrize("ahead", [-3.0, -0.4, 0.0, 0.4, 3.0])
async def test_the_difference_to_the_machines_clock_is_what_is_certain_of_it(
    machine: Machine, way: tuple[float, float], ahead: float
) -> None:
    machine.way_seconds = way
    clock = ServerClock(Wall(machine, ahead))
    await clock.read(machine)
    assert abs(clock.offset_seconds) <= abs(ahead) + 1e-6
    assert abs(clock.offset_seconds) >= abs(ahead) - sum(way) - 1e-6
    assert clock.offset_seconds * ahead >= 0


async def test_the_difference_is_that_of_the_last_reading(machine: Machine) -> None:
    wall = Wall(machine, 2.0)
    clock = ServerClock(wall)
    assert clock.offset_seconds == 0.0
    await clock.read(machine)
    assert clock.offset_seconds == pytest.approx(2.0)
    assert not clock.agrees
    wall.ahead = 0.0
    await clock.read(machine)
    assert clock.offset_seconds == pytest.approx(0.0)
    assert clock.agrees


@pytest.mark.parametrize("jump_s", [-40 * 86_400, -3, 3, 40 * 86_400])
async def test_a_jump_of_postgres_that_the_machines_clock_does_not_share_is_not_followed(
    machine: Machine, jump_s: int
) -> None:
    wall = Wall(machine, 0.2)
    clock = ServerClock(wall)
    await clock.read(machine)
    true_ahead_us = machine.postgres_ahead_us
    machine.postgres_ahead_us += jump_s * 1_000_000
    wall.ahead = 0.2 - jump_s
    for _ in range(3):
        machine.seconds += 5
        await clock.read(machine)
        assert clock.now_us() == true_ahead_us + round(machine.seconds * 1_000_000)
        assert not clock.agrees
    machine.postgres_ahead_us, wall.ahead = true_ahead_us, 0.2
    machine.seconds += 5
    await clock.read(machine)
    assert clock.agrees
    assert clock.now_us() == machine.postgres_us


async def test_a_jump_of_both_clocks_is_followed(machine: Machine) -> None:
    clock = ServerClock(Wall(machine, 0.2))
    await clock.read(machine)
    machine.postgres_ahead_us += 3_600_000_000
    machine.seconds += 5
    await clock.read(machine)
    assert clock.agrees
    assert clock.now_us() == machine.postgres_us


async def test_a_clock_of_postgres_that_drifts_away_is_followed(machine: Machine) -> None:
    wall = Wall(machine, 0.0)
    clock = ServerClock(wall)
    for _ in range(30):
        machine.seconds += 5
        machine.postgres_ahead_us -= 100_000
        wall.ahead += 0.1
        await clock.read(machine)
        assert clock.now_us() == machine.postgres_us
    assert not clock.agrees


async def test_before_the_first_reading_it_goes_by_the_machines_clock(machine: Machine) -> None:
    clock = ServerClock(Wall(machine, 7.0))
    machine.seconds += 2
    assert clock.now_us() == pytest.approx(machine.postgres_us + 7_000_000, abs=2)
    assert clock.agrees
    assert not clock.is_read
    await clock.read(machine)
    assert clock.now_us() == machine.postgres_us
    assert not clock.agrees
