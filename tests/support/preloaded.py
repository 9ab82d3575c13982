"""`tally` in processes whose imports are done: forks of one that has imported everything, and done nothing else.

A Python that starts anew spends half a second of the processor on imports, and the tests start hundreds. How Tally
itself starts is tested on interpreters of their own (`terminal.start`).
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from services.cli.app import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.support.imports"])
_WRITTEN = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Running(Protocol):
    """A process, forked or by `subprocess`."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Preloaded:
    """One process; its streams are files, and what it writes comes after what they hold."""

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], *, stdin: Path, stdout: Path, stderr: Path
    ) -> None:
        streams = [(str(stdin), os.O_RDONLY), (str(stdout), _WRITTEN), (str(stderr), _WRITTEN)]
        self._process = _FORKS.Process(target=_run, args=(list(arguments), dict(env), streams), daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """The exit code, -N where signal N ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("tally", timeout or 0.0)
        return code

    def send_signal(self, number: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], env: dict[str, str], streams: list[tuple[str, int]]) -> None:
    os.environ.clear()
    os.environ.update(env)
    for number, (path, flags) in enumerate(streams):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lasts as long as the process
    sys.argv = [str(Path(sys.executable).with_name("tally")), *arguments]
    main()
