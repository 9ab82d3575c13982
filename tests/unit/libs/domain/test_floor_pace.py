"""How far the floor may rise, whatever the clocks say."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.floor_pace import (
    CATCHING_UP_SPEED,
    FOLLOWING_SPEED,
    STEADY_SECONDS,
    FloorPace,
    Look,
    Verdict,
)
from libs.domain.horizon import floor_ms_at

NOW_MS = 1_800_000_000_000
HOUR_S = 3_600.0
DAY_S = 24 * HOUR_S
LOOK_S = 30.0


class World:
    """Two clocks that may be wrong, a third that nobody sets, the floor, and the shards that raise it."""

    def __init__(self, floor_ms: int | None = None) -> None:
        self.seconds = 1_000.0
        self.postgres_ahead_s = self.machine_ahead_s = 0.0
        self.floor_ms = floor_ms_at(NOW_MS) if floor_ms is None else floor_ms
        self.shards = [FloorPace()]

    @property
    def true_ms(self) -> int:
        return NOW_MS + int((self.seconds - 1_000.0) * 1000)

    @property
    def lag_s(self) -> float:
        """How far the floor is behind where it belongs; negative: ahead."""
        return (floor_ms_at(self.true_ms) - self.floor_ms) / 1000

    def set_both(self, ahead_s: float) -> None:
        self.postgres_ahead_s = self.machine_ahead_s = ahead_s

    def look(self) -> Verdict:
        """Each shard looks and raises; the verdict of the last."""
        for shard in self.shards:
            verdict = shard.judge(
                Look(
                    self.floor_ms,
                    self.true_ms + int(self.postgres_ahead_s * 1000),
                    self.true_ms + int(self.machine_ahead_s * 1000),
                    self.seconds,
                )
            )
            assert verdict.floor_ms >= self.floor_ms
            self.floor_ms = verdict.floor_ms
        return verdict

    def run(self, seconds: float) -> Verdict:
        """Look every half minute."""
        verdict = self.look()
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds += LOOK_S
            verdict = self.look()
        return verdict


def test_the_floor_follows_the_time() -> None:
    world = World()
    assert world.run(3 * DAY_S) == Verdict(floor_ms_at(world.true_ms))


@pytest.mark.parametrize("ahead_s", [-40 * DAY_S, 40 * DAY_S, 1.5])
def test_a_clock_that_is_wrong_alone_raises_nothing_and_gives_an_alarm(ahead_s: float) -> None:
    world = World()
    world.run(HOUR_S)
    before = world.floor_ms
    world.postgres_ahead_s = ahead_s
    assert "differ" in world.run(10 * DAY_S).alarm
    assert world.floor_ms == before
    world.postgres_ahead_s = 0.0
    assert world.run(HOUR_S) == Verdict(floor_ms_at(world.true_ms))


def test_one_reading_after_a_start_raises_nothing() -> None:
    world = World()
    world.set_both(40 * DAY_S)
    before = world.floor_ms
    world.look()
    world.seconds += 6
    world.look()
    world.set_both(0.0)
    world.run(STEADY_SECONDS - LOOK_S)
    assert world.floor_ms == before


def test_both_clocks_wrong_for_a_few_seconds_change_nothing() -> None:
    world = World()
    world.run(HOUR_S)
    world.set_both(40 * DAY_S)
    world.look()
    world.set_both(0.0)
    assert world.run(HOUR_S) == Verdict(floor_ms_at(world.true_ms))


def test_while_both_clocks_are_wrong_the_floor_rises_no_faster_than_time() -> None:
    world = World()
    world.run(HOUR_S)
    world.set_both(40 * DAY_S)
    assert "held back" in world.run(10 * HOUR_S).alarm
    assert world.lag_s >= -(FOLLOWING_SPEED - 1) * 10 * HOUR_S - LOOK_S
    world.set_both(0.0)
    assert world.run(12 * HOUR_S) == Verdict(floor_ms_at(world.true_ms))


def test_an_hour_of_wrong_clocks_after_a_restart_refuses_no_new_request() -> None:
    world = World()
    world.set_both(40 * DAY_S)
    world.run(HOUR_S)
    assert world.floor_ms < world.true_ms


def test_a_cluster_that_was_off_for_a_month_has_its_floor_back_within_two_days() -> None:
    world = World(floor_ms_at(NOW_MS - int(30 * DAY_S * 1000)))
    assert not world.run(HOUR_S).alarm  # to catch up is no alarm
    assert world.lag_s > 28 * DAY_S
    assert world.run(2 * DAY_S) == Verdict(floor_ms_at(world.true_ms))


def test_clocks_that_are_steady_again_need_a_restart_to_catch_up() -> None:
    """Who says that they are right now, and were wrong before?"""
    world = World()
    world.run(HOUR_S)
    world.set_both(5 * DAY_S)
    assert "restart" in world.run(2 * HOUR_S).alarm
    world.shards = [FloorPace()]
    assert world.run(10 * HOUR_S) == Verdict(floor_ms_at(world.true_ms + int(5 * DAY_S * 1000)))


def test_a_floor_that_is_too_high_is_told_and_one_that_was_lowered_is_followed() -> None:
    world = World(floor_ms_at(NOW_MS) + int(39 * DAY_S * 1000))
    assert "tally floor show" in world.run(HOUR_S).alarm
    world.floor_ms = floor_ms_at(world.true_ms)
    assert world.run(HOUR_S) == Verdict(floor_ms_at(world.true_ms))
    world.set_both(40 * DAY_S)  # and what it was before allows nothing now
    world.run(HOUR_S)
    assert world.lag_s > -HOUR_S


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.5, 6.0, 30.0, 200.0, HOUR_S, DAY_S]),
        st.sampled_from([-40 * DAY_S, -2.0, 0.0, 0.5, 2.0, HOUR_S, 40 * DAY_S]),
        st.sampled_from(["both", "postgres", "machine", "restart", "another shard"]),
    ),
    max_size=12,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_no_shards_restarts_and_clocks_raise_it_faster_than_the_limit(
    steps: Sequence[tuple[float, float, str]],
) -> None:
    world = World()
    began_at, began_ms = world.seconds, world.floor_ms
    for seconds, ahead_s, what in steps:
        if what in ("both", "postgres"):
            world.postgres_ahead_s = ahead_s
        if what in ("both", "machine"):
            world.machine_ahead_s = ahead_s
        if what == "restart":
            world.shards = [FloorPace()]
        if what == "another shard":
            world.shards.append(FloorPace())
        world.run(seconds)
        assert world.floor_ms - began_ms <= CATCHING_UP_SPEED * (world.seconds - began_at) * 1000 + 1
