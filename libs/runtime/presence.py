"""Whether the data are still where they were: a removed data folder must end the process that writes to it.

The kernel lets a process go on with files that have lost their names. It would go on to acknowledge what nobody will
ever find again.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from libs.domain.errors import NotReady

LOOK_SECONDS = 0.25


class Presence:
    """Knows paths from the first time that something is there; it is lost when it is gone, or replaced."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known: dict[Path, tuple[int, int] | None] = dict.fromkeys(paths)

    def find_lost(self) -> Path | None:
        """The first path that is not what it was."""
        for path, known in self._known.items():
            found = _identify(path)
            if known is None and found is not None:
                self._known[path] = found
            elif found != known:
                return path
        return None

    async def watch(self) -> None:
        """Look for as long as the process lives. Raises NotReady when something is lost."""
        while (lost := self.find_lost()) is None:  # noqa: ASYNC110 - others remove it
            await asyncio.sleep(LOOK_SECONDS)
        raise NotReady(
            f"{lost} was removed or replaced while it was in use, so nothing more can be kept. Stop Tally before "
            "you remove its data"
        )


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
