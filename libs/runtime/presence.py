"""Whether the data are still where they were: a removed data folder must end the process that writes to it.

The kernel allows a process to continue with deleted files. It would acknowledge events that are lost when it ends.
"""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from tally.contract.errors import NotReady

LOOK_SECONDS = 0.25


class Presence:
    """Knows paths from the first time that something is there; it is lost when it is gone, or replaced.

    It keeps them open: the number of an inode is given to another file as soon as nobody has the first one open, and
    some file systems change it.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._opened: dict[Path, int | None] = dict.fromkeys(paths)

    def find_lost(self) -> Path | None:
        """The first path that is not what it was. An error that does not say so, such as a network's, is no loss."""
        for path, opened in self._opened.items():
            try:
                if opened is None:
                    self._opened[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
                elif not os.path.samestat(path.stat(), os.fstat(opened)):
                    return path
            except (FileNotFoundError, NotADirectoryError):
                if opened is not None:
                    return path
            except OSError:
                continue
        return None

    async def watch(self) -> None:
        """Look while the process runs, then `close`. Raises NotReady when something is lost."""
        try:
            while (lost := self.find_lost()) is None:  # noqa: ASYNC110 - others remove it
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self.close()
        raise NotReady(
            f"{lost} was removed or replaced while it was in use, so nothing more can be kept. Stop Tally before "
            "you remove its data"
        )

    def close(self) -> None:
        """Close the files that it keeps open."""
        for path, opened in self._opened.items():
            if opened is not None:
                os.close(opened)
                self._opened[path] = None
