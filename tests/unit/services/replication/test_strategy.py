"""One total function of (peer state, n)."""

import pytest
from pydantic import ValidationError

from services.replication.settings import StrategySettings, TombstoneSettings
from services.replication.strategy import PeerState, Strategy, select_strategy

SETTINGS = StrategySettings()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (0, Strategy.NOTHING),
        (1, Strategy.CHANGE),
        (99, Strategy.CHANGE),
        (100, Strategy.BATCH),
        (101, Strategy.BATCH),
        (9_999, Strategy.BATCH),
        (10_000, Strategy.BATCH),
        (10_001, Strategy.BATCH),
        (99_999, Strategy.BATCH),
        (100_000, Strategy.NOTIFY),
    ],
)
def test_the_table_of_strategies_has_no_holes(rows: int, expected: Strategy) -> None:
    """T003-01."""
    assert select_strategy(PeerState(), rows, SETTINGS).strategy is expected
    for peer in (PeerState(is_initial_sync=True), PeerState(is_below_floor=True)):
        assert select_strategy(peer, rows, SETTINGS).strategy is Strategy.SNAPSHOT


@pytest.mark.parametrize("rows", [1, 100, 1_000_000])
def test_a_location_that_is_behind_gets_announcements_only(rows: int) -> None:
    """T003-47."""
    assert select_strategy(PeerState(is_behind=True), rows, SETTINGS).strategy is Strategy.NOTIFY


@pytest.mark.parametrize("peer", [PeerState(is_loading=True), PeerState(is_counting=True)])
def test_what_is_loading_or_counting_never_falls_behind(peer: PeerState) -> None:
    """T003-47."""
    assert select_strategy(peer, 1_000_000, SETTINGS).strategy is Strategy.BATCH
    assert select_strategy(peer, 10, SETTINGS, Strategy.NOTIFY).strategy is not Strategy.NOTIFY


def test_tombstones_that_go_before_the_absent_are_told_prevent_the_start() -> None:
    """T003-06."""
    with pytest.raises(ValidationError, match="full_sync_after_seconds must be at most"):
        TombstoneSettings(retention_seconds=7 * 86_400, full_sync_after_seconds=25 * 86_400)
