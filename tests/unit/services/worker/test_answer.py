"""What a handler returns is input: whatever it is, each item gets one result."""

import pytest

from services.worker.answer import MAX_DETAIL_CHARACTERS, check_results, cut_detail
from services.worker.handlers.handler import Item, Outcome, Result

ITEMS = [Item("a"), Item("b")]
GOOD = [Result("b", Outcome.SYNCED), Result("a", Outcome.GONE)]


def outcomes(returned: object) -> list[tuple[str, Outcome]]:
    return [(result.id, result.outcome) for result in check_results(ITEMS, returned)]


def test_results_come_in_the_order_of_the_items() -> None:
    assert outcomes(GOOD) == [("a", Outcome.GONE), ("b", Outcome.SYNCED)]


@pytest.mark.parametrize("returned", [None, [], "ab", 7, [None, "a"], {"a": Outcome.SYNCED}])
def test_an_item_without_a_result_is_tried_again(returned: object) -> None:
    assert outcomes(returned) == [("a", Outcome.RETRY), ("b", Outcome.RETRY)]


def test_an_unknown_id_is_dropped_and_of_two_results_the_first_counts() -> None:
    returned = [*GOOD, Result("c", Outcome.SYNCED), Result("a", Outcome.FAILED)]
    assert outcomes(returned) == [("a", Outcome.GONE), ("b", Outcome.SYNCED)]


def test_a_long_detail_is_cut() -> None:
    assert cut_detail("x" * MAX_DETAIL_CHARACTERS) == "x" * MAX_DETAIL_CHARACTERS
    assert len(cut_detail("x" * (MAX_DETAIL_CHARACTERS + 1))) == MAX_DETAIL_CHARACTERS
