"""A child process is awaited with a deadline, explained by its log, and stopped by as much force as it needs."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from libs.embedded.process import Process, end_residents, find_residents
from tally.contract.errors import NotReady
from tests.integration.libs.embedded.holding import eventually, is_alive


def start(folder: Path, script: str) -> Process:
    return Process.start(
        "The server",
        ["/bin/sh", "-c", script],
        folder=folder,
        log=folder / "server.log",
        death_signal=signal.SIGKILL,
    )


async def never() -> bool:
    return False


async def test_an_end_before_it_is_ready_is_explained_by_the_log(tmp_path: Path) -> None:
    server = start(tmp_path, "seq 1 40; echo the reason >&2; exit 3")
    with pytest.raises(NotReady) as caught:
        await server.wait_until(never, 30)
    assert "The server did not start: it ended by itself, with exit status 3" in str(caught.value)
    assert str(caught.value).endswith("\n  39\n  40\n  the reason")
    assert "\n  20\n" not in str(caught.value)


async def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    server = Process.start("It", ["/no/such"], folder=tmp_path, log=log, death_signal=signal.SIGKILL)
    with pytest.raises(NotReady, match=r"cannot start /no/such as self: .*No such file"):
        await server.finish(30)


async def test_a_start_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    server = start(tmp_path, "exec sleep 600")
    with pytest.raises(NotReady, match=r"not ready after 0\.1 s"):
        await server.wait_until(never, 0.1)
    await server.stop([(signal.SIGKILL, 30)])


async def test_a_death_that_nobody_asked_for_is_told_with_the_end_of_the_log(tmp_path: Path) -> None:
    deaths: list[str] = []
    os.mkfifo(tmp_path / "fifo")
    server = start(tmp_path, "echo the reason; read -r line < fifo; exit 3")
    async with server.watch(deaths.append):
        (tmp_path / "fifo").write_text("end\n")
        await eventually(lambda: bool(deaths))
    assert deaths == [
        f"The server ended by itself, with exit status 3. The end of {tmp_path / 'server.log'}:\n  the reason"
    ]


async def test_who_ignores_a_signal_gets_the_next_one(tmp_path: Path) -> None:
    server = start(tmp_path, "trap '' TERM; echo ignoring; while :; do sleep 0.01; done")
    await eventually(lambda: "ignoring" in (tmp_path / "server.log").read_text())
    await server.stop([(signal.SIGTERM, 0.1), (signal.SIGKILL, 30)])
    assert not is_alive(server.pid)


async def test_a_frozen_process_is_stopped_by_the_first_signal(tmp_path: Path) -> None:
    server = start(tmp_path, "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done")
    await eventually(lambda: "up" in (tmp_path / "server.log").read_text())
    os.kill(server.pid, signal.SIGSTOP)
    await server.stop([(signal.SIGTERM, 30), (signal.SIGKILL, 30)])
    await server.finish(0)  # which raises unless it came to its own `exit 0`


async def test_only_processes_of_the_program_in_the_folder_are_residents(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here = start(tmp_path / "here", "exec sleep 600")
    there = start(tmp_path / "there", "exec sleep 600")
    other = start(tmp_path / "here", "echo up; read -r line < /dev/zero")
    try:
        await eventually(lambda: find_residents(tmp_path / "here", "sleep") == [here.pid])
        await eventually(lambda: find_residents(tmp_path / "there", "sleep") == [there.pid])
        await eventually(lambda: "up" in (tmp_path / "here" / "server.log").read_text())
        assert await reap_and_end(here, tmp_path / "here") == []
        assert is_alive(there.pid)
        assert is_alive(other.pid)
    finally:
        for each in (here, there, other):
            await each.stop([(signal.SIGKILL, 30)])


async def reap_and_end(child: Process, folder: Path) -> list[int]:
    ended = asyncio.create_task(end_residents(folder, "sleep", [(signal.SIGTERM, 30)]))
    with pytest.raises(NotReady, match="was killed by SIGTERM"):
        await child.finish(30)
    return await ended
