"""Percentiles, medians, ratios and targets."""

import pytest

from loadtests.bench.figures import (
    Ratio,
    Result,
    Round,
    compute_ratios,
    in_milliseconds,
    judge_targets,
    per_million,
    percentile,
)
from loadtests.bench.report import to_json


def make_round(events_per_s: float, seconds: float = 2.0, counted_seconds: float = 4.0) -> Round:
    return Round(int(events_per_s * seconds), 10, seconds, counted_seconds, 1.0, 1.0)


def make_result(name: str, *events_per_s: float, fault: str | None = None) -> Result:
    result = Result(name, 1_000, "zipf", (), fault)
    result.rounds = [make_round(each) for each in events_per_s]
    return result


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 1_001)]
    assert percentile(values[::-1], 50) == 500
    assert percentile(values, 99) == 990
    assert percentile(values, 99.9) == 999


def test_a_percentile_that_could_only_be_the_largest_value_is_not_told() -> None:
    assert percentile([1.0] * 999, 99.9) is None
    assert percentile([1.0] * 99, 99) is None
    assert percentile([], 50) is None
    assert in_milliseconds([0.002] * 100) == {"samples": 100, "p50": 2.0, "p99": 2.0, "p99.9": None}


def test_a_rate_is_the_median_of_the_rounds() -> None:
    result = make_result("a", 100, 900, 200)
    assert result.events_per_s == 200
    assert result.counted_per_s == 100


def test_a_ratio_is_the_median_of_the_rounds_that_ran_side_by_side() -> None:
    # The machine was three times as slow in the first round, for both.
    results = {"a": make_result("a", 100, 300, 330), "b": make_result("b", 50, 200, 300)}
    found = compute_ratios(results, [Ratio("a_vs_b", "a", "b", 1.6)])["a_vs_b"]
    assert (found["median"], found["least"], found["most"]) == (1.5, 1.1, 2.0)
    assert found["is_met"] is False
    assert compute_ratios(results, [Ratio("a_vs_b", "a", "b", 1.5)])["a_vs_b"]["is_met"] is True
    assert compute_ratios(results, [Ratio("a_vs_b", "a", "b")])["a_vs_b"]["is_met"] is None


@pytest.mark.parametrize("wrong", ["a", "b"])
def test_there_is_no_ratio_with_a_side_that_is_not_exact(wrong: str) -> None:
    results = {name: make_result(name, 100, fault="lost one" if name == wrong else None) for name in "ab"}
    assert not compute_ratios(results, [Ratio("a_vs_b", "a", "b"), Ratio("a_vs_c", "a", "c")])


def test_targets_are_judged_by_what_was_measured() -> None:
    results = {name: make_result(name, 100) for name in ("tally-columns-1000", "b")}
    results["tally-columns-1000"].latencies_s = [0.004] * 90 + [0.06] * 10
    ratios = compute_ratios(results, [Ratio("a_vs_b", "tally-columns-1000", "b", 1.0)])
    judged = {each["what"]: each["is_met"] for each in judge_targets(results, ratios)}
    assert judged == {
        "a_vs_b": True,
        "tally-columns-1000: acknowledged at half load, p50, ms": True,
        "tally-columns-1000: acknowledged at half load, p99, ms": False,
    }


def test_amounts_are_told_for_a_million_events() -> None:
    assert per_million(3.0, 2_000_000) == 1.5


def test_a_result_that_is_not_exact_has_a_reason_and_no_figure() -> None:
    told = to_json(make_result("valkey-lua-1000", 100, fault="one is missing"))
    assert told["fault"] == "one is missing"
    assert told.keys() == {"name", "request_events", "mix", "lacks", "is_exact", "fault"}
