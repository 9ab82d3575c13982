"""`make load`, with fewer users and seconds."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("scenario", "verdict", "rpc"),
    [
        ("count", "verdict: exact: counted = acknowledged", "CountViewEvent"),
        ("find", "verdict: right: nothing hidden was shown", "Find"),
        ("sync", "verdict: right: every member has one outcome in every run", "ReportItems"),
        ("backfill", "verdict: right: dataset and counts are those of the repositories", "CreateJob"),
    ],
)
async def test_a_throw_away_tally_answers_what_is_right_and_leaves_nothing(
    scenario: str, verdict: str, rpc: str, tmp_path: Path
) -> None:
    # These would lead to somebody's own servers.
    elsewhere = {
        "TALLY_POSTGRES__DSN": "postgresql://nobody@127.0.0.1:1/none",
        "TALLY_DATA_DIR": "/nonexistent",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.load", "--scenario", scenario, "--users", "2", "--seconds", "1",
        cwd=ROOT, env=os.environ | elsewhere | {"TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), 100)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    text = printed.decode()
    assert process.returncode == 0, text
    assert verdict in text
    assert rpc in text
    assert not list(tmp_path.iterdir())


async def test_users_who_index_find_every_entry_as_it_was_acknowledged(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.load", "--scenario", "index", "--users", "2", "--seconds", "3",
        cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), 100)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    text = printed.decode()
    assert process.returncode == 0, text
    assert "entries in 2 locations, 0 of unknown outcome" in text
