"""How much is applied in one transaction, where its cost is not known before."""

from services.counting.recovery.stride import Stride


def test_it_is_a_fourth_after_each_failure_and_never_nothing() -> None:
    stride = Stride(1_000, 3.0)
    found = []
    for _ in range(7):
        found.append(stride.events)
        stride.note_failure(stride.events)
    assert found == [1_000, 250, 62, 15, 3, 1, 1]


def test_it_grows_again_while_transactions_are_quick_and_no_further_than_before() -> None:
    stride = Stride(1_000, 3.0)
    stride.note_failure(1_000)
    found = []
    for _ in range(4):
        stride.note_success(0.1)
        found.append(stride.events)
    assert found == [500, 1_000, 1_000, 1_000]


def test_it_stays_where_twice_as_much_might_take_too_long() -> None:
    stride = Stride(1_000, 3.0)
    stride.note_failure(1_000)
    stride.note_success(1.0)
    assert stride.events == 250


def test_what_failed_counts_and_not_what_it_might_have_been() -> None:
    stride = Stride(1_000, 3.0)
    stride.note_failure(80)
    assert stride.events == 20
    stride.note_failure(1_000)
    assert stride.events == 5
