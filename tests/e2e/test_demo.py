"""The demo as a user runs it, on a small data set, and the part of it that says no."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.demo.__main__ import FILE
from loadtests.demo.check import ask_everything, check, is_exact
from loadtests.demo.dataset import read_dataset
from loadtests.demo.events import cut, make_events
from loadtests.demo.oracle import Oracle, make_oracle
from loadtests.demo.replay import replay, wait_for_flush
from loadtests.demo.rises import Rise, find_rises
from tests.support.stack import Stack

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
LINES = 60


async def start_demo(folder: Path, *arguments: str | Path) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.demo", *arguments),
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TALLY_POSTGRES__DSN": "postgresql://not-this-one.invalid",
        },
        stdout=PIPE,
        stderr=PIPE,
    )


def small(folder: Path) -> Path:
    """The first lines of the data set, with one that has no id."""
    file = folder / "small.csv"
    file.write_text("".join(FILE.read_text().splitlines(keepends=True)[:LINES]))
    return file


def implied(file: Path) -> tuple[Oracle, list[Rise]]:
    rows = read_dataset(file).rows
    rises = list(find_rises(rows))
    return make_oracle((row.video_id for row in rows), rises), rises


async def test_the_demo_counts_a_file_on_a_stack_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    file = small(tmp_path)
    oracle, _ = implied(file)
    process = await start_demo(tmp_path, file)
    said, complaints = (each.decode() for each in await process.communicate())
    assert process.returncode == 0, complaints + said
    assert "Every count is exact." in said
    assert "1 without a video id" in said
    for event_type, count in oracle.of_type.items():
        assert [event_type, f"{count:,}", f"{count:,}"] in [line.split() for line in said.splitlines()]
    assert "\x1b" not in said
    assert [entry.name for entry in (tmp_path / ".tally").iterdir()] == ["demo.log"]


async def test_a_demo_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    process = await start_demo(tmp_path)
    assert process.stdout
    while b"Starting a stack" not in await process.stdout.readline():
        assert not process.stdout.at_eof()
    process.send_signal(signal.SIGTERM)
    _, complaints = await process.communicate()
    assert (process.returncode, complaints) == (
        130,
        b"demo: stopped before the end; nothing is left of the stack\n",
    )
    assert [entry.name for entry in (tmp_path / ".tally").glob("*") if entry.name != "demo.log"] == []


async def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    process = await start_demo(tmp_path, "missing.csv")
    _, complaints = await process.communicate()
    assert process.returncode == 1
    assert b"missing.csv" in complaints


async def test_a_count_that_is_off_by_one_is_found(stack: Stack, tmp_path: Path) -> None:
    oracle, rises = implied(small(tmp_path))
    client = stack.client
    done = await replay(client, cut(make_events(rises), 5_000), lambda _: None)
    assert (done.accepted_count, done.duplicate_count) == (oracle.event_count, 0)
    await wait_for_flush(client, lambda *_: None)

    audit = await client.audit()
    right = await check(client, ask_everything(oracle), lambda: None)
    assert (right.wrong, is_exact(right, audit, oracle)) == ([], True)

    questions = list(ask_everything(oracle))
    for at, question in enumerate(questions[:7]):  # all that is asked of one video
        off = [*questions[:at], replace(question, expected=question.expected + 1), *questions[at + 1 :]]
        wrong = await check(client, iter(off), lambda: None)
        assert [found for found, _ in wrong.wrong] == [off[at]]
        assert not is_exact(wrong, audit, oracle)
