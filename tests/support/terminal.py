"""The `tally` command as a user runs it: the installed script, with pipes as its streams; or a fork, with files."""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import reach
from tests.support.preloaded import Preloaded

TALLY = Path(sys.executable).with_name("tally")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    exit_code: int
    out: str
    err: str


async def start(*arguments: str | Path, address: str = "", **variables: str) -> Process:
    """Start it with the address and other variables in its environment, and none of the test run's."""
    env = _environment(address, variables)
    return await asyncio.create_subprocess_exec(
        TALLY, *arguments, env=env, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def finish(process: Process, stdin: str = "") -> Ended:
    """Give it the rest of its input and wait for its end."""
    out, err = await process.communicate(stdin.encode(errors="surrogateescape"))
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(*arguments: str | Path, address: str = "", stdin: str = "", **variables: str) -> Ended:
    """The same from its start to its end: in a fork, but for variables that Python itself reads when it starts."""
    if any(name.startswith("PYTHON") for name in variables):
        return await finish(await start(*arguments, address=address, **variables), stdin)
    with tempfile.TemporaryDirectory(prefix="tally-run-") as folder:
        given, out, err = (Path(folder, name) for name in ("in", "out", "err"))
        given.write_bytes(stdin.encode(errors="surrogateescape"))
        process = Preloaded(
            [*map(str, arguments)], _environment(address, variables), stdin=given, stdout=out, stderr=err
        )
        try:
            exit_code = await asyncio.to_thread(process.wait)
        finally:
            process.kill()
        return Ended(exit_code, out.read_text("utf-8"), err.read_text("utf-8"))


async def kill(process: Process) -> None:
    """End it without a chance to say anything."""
    process.send_signal(signal.SIGKILL)
    await process.communicate()


def _environment(address: str, variables: Mapping[str, str]) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    if address:
        env["TALLY_SERVER__ADDRESS"] = address
    return {**env, **reach.variables(), **variables}
