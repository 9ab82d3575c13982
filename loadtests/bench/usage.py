"""What the servers of a contender use: processor seconds, memory, disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(slots=True)
class ServerProcesses:
    """The processes that a contender started, and all that they start."""

    roots: Sequence[psutil.Process] = field(default_factory=list)

    def names(self) -> str:
        """The processes with their ids, for a profiler."""
        return ", ".join(f"{process.name()} (pid {process.pid})" for process in self.roots) or "no process"

    def cpu_seconds(self) -> float:
        """Used so far, by those that ended and were waited for too."""
        total = 0.0
        for process in self._all():
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_bytes(self) -> int:
        """Resident now. A page that n processes share counts 1/n in each (PSS), or Postgres's buffers count often."""
        total = 0
        for process in self._all():
            try:
                total += process.memory_full_info().pss
            except psutil.AccessDenied:
                total += process.memory_info().rss
            except psutil.Error:
                continue  # it has ended
        return total

    def _all(self) -> Iterator[psutil.Process]:
        for root in self.roots:
            yield root
            with suppress(psutil.Error):
                yield from root.children(recursive=True)


@contextmanager
def note_children() -> Iterator[ServerProcesses]:
    """Within it, processes are started; afterwards it holds those that are left. One at a time."""
    noted = ServerProcesses()
    here = psutil.Process()
    before = set(here.children())
    yield noted
    noted.roots = [child for child in here.children() if child not in before]


def disk_bytes(folder: Path) -> int:
    """Allocated to the files in a folder, sparse ones by what they take."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it went meanwhile
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_blocks * 512
    return total
