"""Files that are read again when they change: certificates, keys and callers are renewed while a server runs."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from tally.contract.errors import NotReady

_LOGGER = structlog.get_logger(__name__)

T = TypeVar("T")

CHECK_SECONDS = 1.0
"""A change is noticed after this time at the latest, if anybody asks."""


class Watched(Generic[T]):
    """The value that `read` makes of the contents of the files.

    A version that cannot be read, such as a certificate whose key is still the old one, is logged once, and the last
    good value stays. Neither the log nor an error says what is in a file.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[[Sequence[bytes]], T],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises NotReady when the files cannot be read; `read` raises ValueError with a sentence for what is wrong."""
        self._what = what
        self._paths = tuple(paths)
        self._read = read
        self._now = now
        self._checked_at = now()
        try:
            self._stamp = self._look()
            self._value = self._load()
        except (OSError, ValueError) as error:
            raise NotReady(f"cannot read {what} ({self._names}): {_tell(error)}") from None

    @property
    def current(self) -> T:
        """The newest good value. A file that has changed is noticed within a second."""
        now = self._now()
        if now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            self._renew()
        return self._value

    @property
    def _names(self) -> str:
        return ", ".join(str(path) for path in self._paths)

    def _renew(self) -> None:
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._value = self._load()
            self._stamp = stamp  # of before it was read: what was half written then has another one now
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError):
                self._stamp = stamp  # it stays bad until it changes
            _LOGGER.warning(
                "changed files cannot be read; the old version stays in use",
                what=self._what,
                files=self._names,
                error=_tell(error),
            )
        else:
            _LOGGER.info("changed files were read again", what=self._what, files=self._names)

    def _look(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in self._paths]
        return [(each.st_mtime_ns, each.st_ino, each.st_size) for each in found]

    def _load(self) -> T:
        return self._read([path.read_bytes() for path in self._paths])


def _tell(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
