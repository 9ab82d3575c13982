"""How many retries there may be."""

from tally.contract.retry_budget import RetryBudget
from tests.support.clock import Clock


def take_all(budget: RetryBudget) -> int:
    taken = 0
    while budget.take():
        taken += 1
    return taken


def test_a_burst_is_let_through_and_then_a_trickle() -> None:
    clock = Clock()
    budget = RetryBudget(clock.monotonic, share=0.2, per_second=10, burst=50)
    assert take_all(budget) == 50
    clock.seconds += 0.5
    assert take_all(budget) == 5


def test_what_succeeds_at_once_earns_a_share_of_a_retry() -> None:
    budget = RetryBudget(Clock().monotonic, share=0.25, per_second=1, burst=50)
    take_all(budget)
    for _ in range(20):
        budget.note_success(retried=False)
        budget.earn()
    assert take_all(budget) == 10


def test_a_retry_that_is_given_back_can_be_taken_once_more() -> None:
    budget = RetryBudget(Clock().monotonic, share=0.0, per_second=1, burst=2)
    take_all(budget)
    budget.give_back()
    assert take_all(budget) == 1


def test_the_wait_for_the_next_retry_is_as_long_as_the_trickle_needs() -> None:
    clock = Clock()
    budget = RetryBudget(clock.monotonic, share=0.25, per_second=0.5, burst=3)
    assert budget.wait_s == 0.0
    take_all(budget)
    assert budget.wait_s == 2.0
    budget.earn()
    assert budget.wait_s == 1.5
    clock.seconds += budget.wait_s
    assert take_all(budget) == 1


def test_retries_that_fail_are_bounded_however_many_there_are() -> None:
    clock = Clock()
    budget = RetryBudget(clock.monotonic, share=0.2, per_second=10, burst=10)
    made = 0
    for _ in range(100):
        clock.seconds += 0.1
        made += take_all(budget)
    assert made <= 10 + 10 * 10


def test_when_the_cluster_is_back_the_retries_that_waited_are_soon_let_through() -> None:
    clock = Clock()
    budget = RetryBudget(clock.monotonic, share=0.0, per_second=1, burst=1000)
    take_all(budget)
    clock.seconds += 1
    waves = []
    for _ in range(8):
        waves.append(take_all(budget))
        for _ in range(waves[-1]):
            budget.note_success(retried=True)
    assert waves == [1, 2, 4, 8, 16, 32, 64, 128]


def test_no_more_is_saved_than_the_burst() -> None:
    clock = Clock()
    budget = RetryBudget(clock.monotonic, share=1.0, per_second=10, burst=5)
    clock.seconds += 100
    budget.note_success(retried=True)
    budget.give_back()
    assert take_all(budget) == 5
