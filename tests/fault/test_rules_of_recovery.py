"""The rules by which a log is closed, applied and settled: exact with each, caught without (see `test_rules.py`)."""

import pytest

from libs.domain.entry import Outcome
from services.counting.journal import journal
from services.counting.journal.appender import LogClosed
from services.counting.recovery import recovery
from services.counting.recovery.recovery import Recovery
from tests.support.life import open_life, take_over
from tests.support.rules import WITH_AND_WITHOUT, X_EVENTS, Y_EVENTS, X, Y, judge, without
from tests.support.shards import FAST

pytestmark = [pytest.mark.exact, WITH_AND_WITHOUT]


async def test_closing_waits_for_an_insert_under_way(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_on:
        without(monkeypatch, recovery, "_LOCK", " for update skip locked")
    await take_over_during_an_insert(dsn)
    await judge(dsn, X, 0 if is_on else -X_EVENTS)


async def test_an_insert_holds_the_row_of_its_log(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_on:
        without(monkeypatch, journal, "_INSERT", " for key share")
    await take_over_during_an_insert(dsn)
    await judge(dsn, X, 0 if is_on else -X_EVENTS)


async def test_recovery_closes_a_log_before_it_applies_it(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave_open(_self: Recovery, _log_id: int) -> bool:
        return True

    if not is_on:
        monkeypatch.setattr(Recovery, "_close", leave_open)
        without(monkeypatch, recovery, "_SETTLE", " and state = 'closed'")
    await take_over_during_an_insert(dsn)
    await judge(dsn, X, 0 if is_on else -X_EVENTS)


async def take_over_during_an_insert(dsn: str) -> None:
    async with open_life(dsn) as life:
        async with life.connection.transaction():
            assert await life.send(X) == {Outcome.JOURNALED}
            is_settled = await take_over(dsn, life.log.log_id)
        if not is_settled:
            assert await take_over(dsn, life.log.log_id)


async def test_an_insert_looks_whether_its_log_is_open(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_on:
        without(monkeypatch, journal, "_INSERT", " and state = 'open' for key share")
    async with open_life(dsn) as life:
        assert await take_over(dsn, life.log.log_id)
        if is_on:
            with pytest.raises(LogClosed):
                await life.send(X)
        else:
            assert await life.send(X) == {Outcome.JOURNALED}
    await judge(dsn, {} if is_on else X, 0 if is_on else -X_EVENTS)


async def test_recovery_reads_a_log_after_it_was_closed(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An insert is committed just before the close."""
    close, apply_piece = Recovery._close, Recovery._apply_piece

    async def close_late(self: Recovery, log_id: int) -> bool:
        while not is_on and await apply_piece(self, log_id):
            pass
        assert await life.send(X) == {Outcome.JOURNALED}
        return await close(self, log_id)

    async def has_applied(_self: Recovery, _log_id: int) -> bool:
        return False

    monkeypatch.setattr(Recovery, "_close", close_late)
    if not is_on:
        monkeypatch.setattr(Recovery, "_apply_piece", has_applied)
    async with open_life(dsn) as life:
        assert await life.send(Y) == {Outcome.JOURNALED}
        assert await take_over(dsn, life.log.log_id)
    await judge(dsn, {**X, **Y}, 0 if is_on else -X_EVENTS)


async def test_a_log_is_settled_when_nothing_is_left_of_it(
    dsn: str, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_piece = Recovery._apply_piece

    async def apply_one(self: Recovery, log_id: int) -> bool:
        await apply_piece(self, log_id)
        return False

    if not is_on:
        monkeypatch.setattr(Recovery, "_apply_piece", apply_one)
    async with open_life(dsn) as life:
        for counts in (X, Y):
            assert await life.send(counts) == {Outcome.JOURNALED}
        assert await take_over(dsn, life.log.log_id, FAST.model_copy(update={"piece_events": Y_EVENTS}))
    await judge(dsn, {**X, **Y}, 0 if is_on else -Y_EVENTS)
