"""The `tally` command as a user runs it: the installed script, its output in pipes."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path

TALLY = Path(sys.executable).with_name("tally")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    exit_code: int
    out: str
    err: str


async def start(*arguments: str | Path, address: str = "", **variables: str) -> Process:
    """Start it with the address and other variables in its environment, and none of the test run's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    if address:
        env["TALLY_SERVER__ADDRESS"] = address
    return await asyncio.create_subprocess_exec(
        TALLY, *arguments, env={**env, **variables}, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def finish(process: Process, stdin: str = "") -> Ended:
    """Give it the rest of its input and wait for its end."""
    out, err = await process.communicate(stdin.encode(errors="surrogateescape"))
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(*arguments: str | Path, address: str = "", stdin: str = "", **variables: str) -> Ended:
    """Start it and wait for its end."""
    return await finish(await start(*arguments, address=address, **variables), stdin)


async def kill(process: Process) -> None:
    """End it without a chance to say anything."""
    process.send_signal(signal.SIGKILL)
    await process.communicate()
