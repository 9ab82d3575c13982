"""A server's process: started with its output in a log, awaited, stopped step by step, found again.

Why both a death signal and a search: the kernel sends `death_signal` to a server when the *thread* that
started it ends, so kill -9 of Tally stops its servers in order. But a frozen server does not react, a slow
one still writes its last checkpoint, and the workers of a killed postmaster live on for a moment. So a start
first looks for processes of the server's program whose working directory is the data folder, wherever
they come from, and ends them. A pid in a file alone is never trusted: it may belong to another process by now.

A server that is found is stopped and started, not used again: only a child is told of its parent's death,
can be waited for, and runs with the settings of today.

Start servers from the main thread, or from one that ends after them.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from libs.embedded.files import append_to
from tally.contract.errors import NotReady

POLL_SECONDS = 0.01
WATCH_SECONDS = 0.5
SEARCH_SECONDS = 0.05  # a look at every process of the machine takes some milliseconds
TAIL_LINES = 15
_LAUNCH = Path(__file__).with_name("launch.py")

# Who was killed, or asked to end and did, has not left the reason in its log.
_SAYS_NOTHING = (0, -signal.SIGKILL, -signal.SIGTERM)

# A signal, and how many seconds it has to work.
Step = tuple[signal.Signals, float]

OnDeath = Callable[[str], None]
"""called for a server that ended unexpectedly, with the end of its log if it shows the cause"""


class Process:
    """A child in its own session (Ctrl-C in the terminal reaches Tally alone), with its output in `log`."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = child.pid
        self._child = child
        self._log = log

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        log: Path,
        death_signal: signal.Signals,
        identity: str = "self",
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Run `command` in `folder` as `identity` (see `launch`); `name` is what messages call it.

        Without an `environment` it gets next to none of ours.
        """
        with os.fdopen(append_to(log), "ab") as output:
            child = subprocess.Popen(  # noqa: S603 - the callers' commands are constants and paths
                make_launch(command, folder=folder, death_signal=death_signal, identity=identity),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=_environment() if environment is None else environment,
            )
        return cls(name, child, log)

    async def wait_until(
        self,
        is_ready: Callable[[], Awaitable[bool]],
        timeout_seconds: float,
        *,
        every_seconds: float = POLL_SECONDS,
    ) -> None:
        """Return once `is_ready()`; raise NotReady, with the end of the log, if it ends or takes too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not await is_ready():
                    if (status := self._child.poll()) is not None:
                        raise self._failure(f"it {describe_end(status)}")
                    await asyncio.sleep(every_seconds)
        except TimeoutError:
            raise self._failure(f"it was not ready after {timeout_seconds:g} s") from None

    async def finish(self, timeout_seconds: float) -> None:
        """Wait until the process has done its work; raise NotReady if it fails or takes too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                status = await self._wait()
        except TimeoutError:
            raise self._failure(f"it was not done after {timeout_seconds:g} s") from None
        if status != 0:
            raise self._failure(f"it {describe_end(status)}")

    @asynccontextmanager
    async def watch(
        self,
        on_death: OnDeath | None,
        *,
        every_seconds: float = WATCH_SECONDS,
        find_fault: Callable[[], str | None] = lambda: None,
    ) -> AsyncIterator[None]:
        """Tell `on_death` if the process ends within this context, or if `find_fault` returns a sentence: why the
        process, though it runs, is of no use any more."""

        async def look() -> None:
            while (status := self._child.poll()) is None:
                if fault := find_fault():
                    if on_death is not None:
                        on_death(f"{self.name} cannot be used any more: {fault}.")
                    return
                await asyncio.sleep(every_seconds)
            if on_death is not None:
                tail = "" if status in _SAYS_NOTHING else f" {read_tail(self._log)}"
                on_death(f"{self.name} {describe_end(status)}.{tail}")

        watching = asyncio.create_task(look(), name=f"watch over {self.name}")
        try:
            yield
        finally:
            watching.cancel()

    async def stop(self, steps: Iterable[Step]) -> None:
        """Send the signals one after the other, each only if those before it did not work in time."""
        for step, seconds in steps:
            if self._child.poll() is not None:
                return
            self._child.send_signal(step)
            self._child.send_signal(signal.SIGCONT)  # a frozen process would not notice the other one
            try:
                async with asyncio.timeout(seconds):
                    await self._wait()
            except TimeoutError:
                continue

    async def _wait(self) -> int:
        # Nothing to subscribe to that works in every event loop and on every kernel.
        while (status := self._child.poll()) is None:  # noqa: ASYNC110 - see above
            await asyncio.sleep(POLL_SECONDS)
        return status

    def _failure(self, what: str) -> NotReady:
        return NotReady(f"{self.name} did not start: {what}. {read_tail(self._log)}")


def make_launch(
    command: Sequence[str | Path], *, folder: Path, death_signal: signal.Signals, identity: str = "self"
) -> list[str]:
    """What to run for `command` in `folder` as `identity`, with `death_signal` when the thread ends that starts it.

    See `launch.py`. It has to be started by this process.
    """
    begin = (sys.executable, "-I", "-S", _LAUNCH, os.getpid(), int(death_signal), identity, folder)
    return [str(each) for each in (*begin, *command)]


def find_residents(folder: Path, program: str) -> list[int]:
    """The pids of the processes of `program` that work in `folder`, also of other starts."""
    found = []
    home = folder.stat()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lives_here = os.path.samestat((entry / "cwd").stat(), home)
                binary = (entry / "exe").readlink().name
            except OSError:  # it ended, or it is another user's
                continue
            # The binary may have been replaced since, as by a new virtual environment.
            if lives_here and binary.removesuffix(" (deleted)") == program:
                found.append(int(entry.name))
    return found


async def end_residents(
    folder: Path, program: str, steps: Iterable[Step], *, only: int | None = None
) -> list[int]:
    """Stop what `find_residents` finds, or `only` one pid of it; returns the pids that are left."""

    def find() -> list[int]:
        return [pid for pid in find_residents(folder, program) if only in (None, pid)]

    left = find()
    for step, seconds in steps:
        for pid in left:
            _send(pid, step)
            _send(pid, signal.SIGCONT)
        try:
            async with asyncio.timeout(seconds):
                while left:
                    await asyncio.sleep(SEARCH_SECONDS)
                    left = find()
        except TimeoutError:
            continue
    return left


def describe_end(status: int) -> str:
    """What a status of `subprocess` says, as the end of a sentence."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended by itself, with exit status {status}"


def read_tail(log: Path) -> str:
    """The last lines of a log, indented, with a heading."""
    if not log.exists():  # it was removed
        return f"{log} is gone."
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n  ".join([f"The end of {log}:", *lines]) if lines else f"{log} is empty."


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _environment() -> dict[str, str]:
    """Little, so that no PGDATA, PGPORT or locale of the caller's changes how a server behaves."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
