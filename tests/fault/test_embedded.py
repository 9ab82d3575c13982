"""A server that Tally started itself dies under it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from services.cli.terminal.failure import REFUSED
from tests.support.database import PARTITION_COUNT
from tests.support.servers import copy_cluster
from tests.support.terminal import finish, kill, start


@pytest.mark.parametrize(
    ("name", "pid_file"),
    [("Postgres", "postgres/pgdata/postmaster.pid"), ("Valkey", "valkey/valkey.pid")],
)
async def test_the_process_ends_with_the_server_that_it_started(
    tmp_path: Path, name: str, pid_file: str
) -> None:
    await copy_cluster(tmp_path / "postgres")
    settings = {"TALLY_DATA_DIR": str(tmp_path), "TALLY_PARTITION_COUNT": str(PARTITION_COUNT)}
    tally = await start("up", address="127.0.0.1:0", **settings)
    try:
        assert tally.stdout is not None
        async with asyncio.timeout(60):
            while b"Tally is serving." not in await tally.stdout.readline():
                assert not tally.stdout.at_eof()
            os.kill(int((tmp_path / pid_file).read_text().splitlines()[0]), signal.SIGKILL)
            ended = await finish(tally)
    finally:
        if tally.returncode is None:
            await kill(tally)
    assert ended.exit_code == REFUSED
    assert f"cannot go on: embedded servers ended: {name} was killed by SIGKILL." in ended.err
