"""The examples of the README, run as they stand against every service on real stores."""

import asyncio
import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.support.stack import Stack

README = Path(__file__).parents[3] / "libs" / "tally" / "README.md"
ADDRESS = "127.0.0.1:50051"
EXAMPLES = [
    code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if ADDRESS in code
]


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
