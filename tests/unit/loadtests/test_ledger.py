"""The bounds between what was acknowledged and what was sent."""

import pytest

from loadtests.ledger import Ledger

VIEWS = ("abc", "view")
LIKES = ("abc", "like")


@pytest.fixture
def ledger() -> Ledger:
    """Three views and a like were acknowledged; of two more views nobody knows."""
    ledger = Ledger()
    for events in ([VIEWS, VIEWS, VIEWS], [LIKES]):
        ledger.send(events)
        ledger.acknowledge(events)
    ledger.send([VIEWS, VIEWS])
    return ledger


@pytest.mark.parametrize("views", [3, 4, 5])
def test_what_has_an_unknown_outcome_may_be_counted_or_not(ledger: Ledger, views: int) -> None:
    verdict = ledger.judge({VIEWS: views, LIKES: 1})
    assert not verdict.wrong
    assert (verdict.sent, verdict.acknowledged, verdict.counted) == (6, 4, views + 1)
    assert verdict.unknown == 2


@pytest.mark.parametrize(
    ("counted", "wrong"),
    [
        ({VIEWS: 2, LIKES: 1}, "view of abc: counted 2, and it should be 3 to 5"),
        ({VIEWS: 6, LIKES: 1}, "view of abc: counted 6, and it should be 3 to 5"),
        ({VIEWS: 4, LIKES: 0}, "like of abc: counted 0, and it should be 1"),
        ({VIEWS: 4, LIKES: 2}, "like of abc: counted 2, and it should be 1"),
    ],
)
def test_less_than_acknowledged_and_more_than_sent_are_wrong(
    ledger: Ledger, counted: dict[tuple[str, str], int], wrong: str
) -> None:
    assert ledger.judge(counted).wrong == [wrong]


def test_an_event_too_many_does_not_make_up_for_one_that_is_missing() -> None:
    ledger = Ledger()
    for key in (VIEWS, LIKES):
        ledger.send([key])
        ledger.acknowledge([key])
    verdict = ledger.judge({VIEWS: 2, LIKES: 0})
    assert verdict.counted == verdict.acknowledged
    assert len(verdict.wrong) == 2


def test_a_run_in_which_nothing_was_acknowledged_shows_nothing() -> None:
    ledger = Ledger()
    ledger.send([VIEWS])
    assert ledger.judge({VIEWS: 0}).wrong == ["nothing was acknowledged, so nothing is shown"]


def test_what_was_seen_on_the_way_is_in_the_verdict(ledger: Ledger) -> None:
    ledger.expect(True, "is as expected")
    ledger.expect(False, "read 7 when 3 to 5 were possible")
    assert ledger.judge({VIEWS: 4, LIKES: 1}).wrong == ["read 7 when 3 to 5 were possible"]
