"""Two complete regions, as `make regions` runs them: entries arrive by each strategy, also while the receiver dies."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.cli.terminal.failure import OK
from tests.support.eventually import eventually
from tests.support.processes import free_port
from tests.support.reach import cluster_options, variables

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

TALLY = Path(sys.executable).parent / "tally"
STRATEGIES = ("change", "batch", "notify", "snapshot")


class Regions:
    """Both regions behind the command line."""

    def __init__(self, first: str, second: str, log: Path, data: Path) -> None:
        self.first = first
        self.second = second
        self.log = log
        self.data = data

    async def run(self, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            str(TALLY),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **variables()},
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def json(self, *arguments: str) -> Any:
        code, output = await self.run(*arguments, "--json")
        assert code == OK, output
        return json.loads(output)

    async def until_verified(self, entries: int) -> None:
        """`tally replication verify` at the second region prints equal fingerprints, and exits with 0."""

        async def is_equal() -> bool:
            code, output = await self.run("replication", "verify", "--json", "--address", self.second)
            if code != OK:
                return False
            found = json.loads(output)
            assert all(each["fingerprint_here"] == each["fingerprint_there"] for each in found)
            return bool(sum(each["rows_here"] for each in found) == entries)

        await eventually(is_equal, 60.0)

    def pid_of_second(self) -> int:
        found = re.findall(r"second .*pid (\d+)|second is back, pid (\d+)", self.log.read_text())
        return int(next(filter(None, found[-1])))


@pytest_asyncio.fixture
async def regions(tmp_path: Path) -> AsyncIterator[Regions]:
    first, second = (f"127.0.0.1:{free_port()}" for _ in range(2))
    log, data = tmp_path / "regions.log", tmp_path / "data"
    addresses = ("--first", first, "--second", second)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own code
            [str(TALLY), "regions", "up", "--data-dir", str(data), *addresses, *cluster_options(data)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables(), "PYTHONUNBUFFERED": "1"},
        )

    async def is_serving() -> bool:
        assert process.poll() is None, log.read_text()
        return "Two regions are serving" in log.read_text()

    try:
        await eventually(is_serving, 120.0)
        yield Regions(first, second, log, data)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)


def make_files(folder: Path, start: int, count: int) -> None:
    for number in range(start, start + count):
        inner = folder / f"folder {number // 60}"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"file {number}.txt").write_text(f"{number}")


async def test_a_folder_arrives_by_each_strategy_while_the_receiver_is_killed(
    regions: Regions, tmp_path: Path
) -> None:
    folder = tmp_path / "media"
    for round_, strategy in enumerate(STRATEGIES):
        make_files(folder, round_ * 300, 300)
        index = ("locations", "index", str(folder), "--strategy", strategy, "--address", regions.first)
        indexed = await regions.json(*index)
        if strategy == "batch":  # in the middle of it
            os.kill(regions.pid_of_second(), signal.SIGKILL)
        assert indexed["skipped_count"] == 0
        await regions.until_verified(indexed["location"]["entry_count"])
    assert "second is back" in regions.log.read_text()
    code, output = await regions.run("replication", "status", "--address", regions.second)
    assert code == OK, output
