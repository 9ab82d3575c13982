"""The examples of the README, run as they stand against every service on real stores."""

import asyncio
import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.support.stack import Stack

ROOT = Path(__file__).parents[3]
ADDRESS = "127.0.0.1:50051"


def examples_of(page: Path) -> list[str]:
    """The blocks that call the service."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    return [code for code in blocks if ADDRESS in code]


EXAMPLES = examples_of(ROOT / "libs" / "tally" / "README.md")
FIRST_PAGE = examples_of(ROOT / "README.md")


def test_the_first_page_shows_the_first_example() -> None:
    assert EXAMPLES[:1] == FIRST_PAGE


@pytest.mark.parametrize("code", EXAMPLES, ids=["blocking", "asyncio"])
async def test_an_example_prints_what_it_says(stack: Stack, code: str) -> None:
    said = re.findall(r"print\(.*\)  # (.*)", code)
    assert said
    assert code.count(ADDRESS) == 1
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        await asyncio.to_thread(exec, code.replace(ADDRESS, stack.address), {"__name__": "example"})
    assert printed.getvalue().splitlines() == said


def test_the_first_example_has_ten_lines_at_most() -> None:
    assert len(EXAMPLES[0].splitlines()) <= 10
