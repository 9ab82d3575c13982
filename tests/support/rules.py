"""Tests that run twice: with a rule of the design, and with the code changed just so far that it is switched off."""

from contextlib import nullcontext
from typing import Any

import pytest

from tests.support.entries import Counts
from tests.support.proof import assert_exact, open_proof, rolled_up

X, Y = {("x", "view"): 3}, {("y", "view"): 5}
X_EVENTS, Y_EVENTS = 3, 5

WITH_AND_WITHOUT = pytest.mark.parametrize(
    "is_on", [pytest.param(True, id="with"), pytest.param(False, id="without")]
)


async def judge(dsn: str, acknowledged: Counts, surplus: int) -> None:
    """All is applied, and counted less acknowledged is `surplus`: the proof holds if that is 0, and fails if not."""
    async with open_proof(dsn) as connection:
        assert sum((await rolled_up(connection)).values()) - sum(acknowledged.values()) == surplus
    with pytest.raises(AssertionError) if surplus else nullcontext():
        await assert_exact(dsn, acknowledged, within_seconds=0)


def without(
    monkeypatch: pytest.MonkeyPatch, module: Any, statement: str, part: str, instead: str = ""
) -> None:
    """Change a part of a statement."""
    before = getattr(module, statement)
    assert part in before
    monkeypatch.setattr(module, statement, before.replace(part, instead))
