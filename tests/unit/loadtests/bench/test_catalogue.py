"""Who runs, and beside whom."""

import pytest

from loadtests.bench.catalogue import FULL, GROUPS, RATIOS, choose


def test_only_contenders_of_one_group_are_compared() -> None:
    groups = [{each.name for each in group} for group in (*GROUPS, *FULL)]
    for ratio in RATIOS:
        assert any({ratio.of, ratio.over} <= group for group in groups), ratio.name


def test_every_contender_has_a_name_of_its_own() -> None:
    everybody = [each.name for group in (*GROUPS, *FULL) for each in group]
    assert len(set(everybody)) == len(everybody)


def test_a_name_without_its_size_stands_for_all_sizes() -> None:
    chosen = choose(["valkey-lua", "echo-1"], is_full=False)
    assert [each.name for group in chosen for each in group] == [
        *("valkey-lua-1000", "valkey-lua-5000", "echo-1", "valkey-lua-100"),
    ]


def test_the_long_run_has_more_than_the_short_one() -> None:
    short, full = (sum(map(len, choose([], is_full=is_full))) for is_full in (False, True))
    assert full > short > 0


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no contender is called redis; there are tally-columns-1000"):
        choose(["redis"], is_full=False)
