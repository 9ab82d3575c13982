"""A short piece of the line of two regions, and that what is wrong in it is found."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.fault.table import regions

pytestmark = [pytest.mark.long, pytest.mark.exact, pytest.mark.timeout(600)]


async def test_the_counts_over_all_regions_are_the_sum_of_what_each_acknowledged_whatever_is_killed(
    tmp_path: Path,
) -> None:
    row = await regions.run_regions(tmp_path, random.Random(7), kills=2)
    assert row.wrong == ()
    assert row.acknowledged == row.requests > 0


async def test_a_count_or_an_entry_that_nobody_acknowledged_breaks_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    differences = regions._differences

    async def differences_of_less(
        load: regions.RegionLoad, loads: list[regions.RegionLoad], prefix: str
    ) -> list[str]:
        less = Counter(dict.fromkeys(load.acknowledged, 1))
        load.acknowledged -= less
        load.entries = dict(list(load.entries.items())[1:])
        try:
            return await differences(load, loads, prefix)
        finally:
            load.acknowledged += less

    monkeypatch.setattr(regions, "_differences", differences_of_less)
    monkeypatch.setattr(regions, "_REST_SECONDS", 5.0)
    row = await regions.run_regions(tmp_path, random.Random(8), kills=1)
    assert any("counted" in sentence for sentence in row.wrong)
    assert any("entries of" in sentence for sentence in row.wrong)
