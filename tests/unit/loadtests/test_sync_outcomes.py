"""The verdict of the load on the scheduler finds what is wrong."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from loadtests.sync.outcomes import Outcomes, RunResult, choose_zone

MEMBERS = ("a", "b", "c")
RESULT = RunResult(7, True, members=3, synced=3, others=0)


def make_outcomes() -> Outcomes:
    """Of a run that is right."""
    outcomes = Outcomes(MEMBERS, calls=2)
    outcomes.note_run("request", 7)
    outcomes.note_report("7/0", "-1/", ["a", "b"])
    outcomes.note_report("7/1", "5/b", ["c"])
    return outcomes


def judge(outcomes: Outcomes, *results: RunResult, used: int = 2) -> list[str]:
    return outcomes.judge(results or [RESULT], used, 10)


def test_a_run_that_is_right_has_no_sentence() -> None:
    outcomes = make_outcomes()
    outcomes.note_run("request", 7)
    outcomes.note_report("7/1", "5/b", ["c"])
    assert judge(outcomes) == []
    assert judge(outcomes, used=3) == []


def test_two_reports_of_a_member_and_none_are_found() -> None:
    outcomes = make_outcomes()
    outcomes.note_report("7/2", "6/c", ["c"])
    assert any("c was reported 2 times for run 7" in wrong for wrong in judge(outcomes))
    assert any(
        "a was reported 0 times for run 8" in wrong for wrong in judge(outcomes, RunResult(8, True, 3, 3, 0))
    )


def test_answers_that_contradict_each_other_are_found() -> None:
    outcomes = make_outcomes()
    outcomes.note_run("request", 8)
    outcomes.note_report("7/1", "5/b", ["d"])
    wrong = judge(outcomes)
    assert any("request request planned run 7, and run 8" in each for each in wrong)
    assert any("two sets of items" in each for each in wrong)


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (RunResult(7, False, 3, 3, 0), "run 7 has not ended"),
        (RunResult(7, True, 3, 2, 0), "2 synced"),
        (RunResult(7, True, 3, 3, 1), "1 others"),
        (RunResult(7, True, 4, 3, 0), "4 members"),
        (RunResult(8, True, 3, 3, 0), "run 7 is not listed"),
    ],
)
def test_results_that_differ_from_the_members_are_found(result: RunResult, sentence: str) -> None:
    assert any(sentence in wrong for wrong in judge(make_outcomes(), result))


@pytest.mark.parametrize("used", [1, 11])
def test_unpaid_calls_and_an_overdrawn_quota_are_found(used: int) -> None:
    assert any("calls were made" in wrong for wrong in judge(make_outcomes(), used=used))


def test_no_quota_day_ends_during_the_test() -> None:
    for hour in range(24):
        now = datetime(2026, 3, 2, hour, 59, tzinfo=UTC)
        assert now.astimezone(ZoneInfo(choose_zone(now))).hour == 12
