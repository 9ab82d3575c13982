"""A private folder for the sockets of one process, inside a data folder.

Each process makes one of its own, `sockets-` and eight characters, and holds a lock in it for as long as it lives. So
another process, or one that starts on a copy of the data folder, removes only what a killed process has left.

A server listens there by a path relative to its working folder. Its clients connect through the descriptor that this
process keeps open (`/proc/PID/fd/N`, proc(5)). Both paths are short however long that of the data folder is (a socket's
path has 107 bytes at most, unix(7)), hold no character that a URL would change, and lead to this very folder even
when it is renamed or replaced by a link.
"""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from libs.embedded.files import open_private
from libs.embedded.folder import open_folder
from tally.contract.errors import NotReady

PREFIX = "sockets-"
WATCH_SECONDS = 0.5
_LOCK = "lock"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SocketFolder:
    """A folder for sockets that stays the same while servers come and go."""

    def __init__(self, around: int, folder: Path) -> None:
        """`around` is `folder`, open."""
        self._around = around
        self._name, self._opened, self._lock = _make(around)
        self._folder = folder

    @property
    def path(self) -> Path:
        """Where it is, for messages and for people."""
        return self._folder / self._name

    @property
    def name(self) -> str:
        """Its path from the data folder, for a server that works there."""
        return self._name

    @property
    def reach(self) -> Path:
        """Its path for clients, in this process and in others of this user; it ends with this process."""
        return Path(f"/proc/{os.getpid()}/fd/{self._opened}")

    def prepare(self, names: Sequence[str]) -> None:
        """Make way for a server that makes files with these names: no leftover, and the folder is the server's to use.

        Postgres would believe the pid in a leftover, whose ever it is by now. If somebody has removed the folder, it is
        made again under the same paths.
        """
        if not _is_there(self._around, self._name, self._opened):
            try:
                self._make_again()
            except OSError as error:
                raise NotReady(f"No folder for sockets can be made in {self._folder}: {error}") from error
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._opened)
        if os.geteuid() == 0:  # a server of root's need not run as root
            owner = os.fstat(self._around)
            os.fchown(self._opened, owner.st_uid, owner.st_gid)

    def find_missing(self, names: Sequence[str]) -> str | None:
        """A sentence for the first of these sockets that is not there any more."""
        for name in names:
            try:
                os.stat(name, dir_fd=self._opened, follow_symlinks=False)
            except OSError:
                return (
                    f"the socket {self.path / name} was removed while it was in use. Leave the folder "
                    f"{PREFIX}* in a data folder alone while Tally runs"
                )
        return None

    async def watch(self, names: Sequence[str]) -> None:
        """Raise NotReady when one of these sockets is removed."""
        while (missing := self.find_missing(names)) is None:  # noqa: ASYNC110 - others remove it
            await asyncio.sleep(WATCH_SECONDS)
        raise NotReady(missing)

    def close(self) -> None:
        """Remove it with all that is in it."""
        if _is_there(self._around, self._name, self._opened):
            _remove(self._around, self._name, self._opened)
        os.close(self._lock)
        os.close(self._opened)

    def _make_again(self) -> None:
        name, opened, lock = _make(self._around)
        os.close(self._lock)
        self._name, self._lock = name, lock
        os.dup2(opened, self._opened, inheritable=False)  # clients know the number
        os.close(opened)


@contextmanager
def open_socket_folder(folder: Path, kept: SocketFolder | None = None) -> Iterator[SocketFolder]:
    """A new private folder in `folder`, which is made if need be; those of killed processes are removed.

    It is `kept`, which the caller has from here and keeps open, where that is given. Raises NotReady.
    """
    if kept is not None:
        yield kept
        return
    folder = folder.absolute()
    around = open_folder(folder, is_private=False)  # what is made in it is
    try:
        try:
            _remove_left(around)
            sockets = SocketFolder(around, folder)
        except OSError as error:
            raise NotReady(f"No folder for sockets can be made in {folder}: {error}") from error
        try:
            yield sockets
        finally:
            sockets.close()
    finally:
        os.close(around)


def _make(around: int) -> tuple[str, int, int]:
    """The name of a new folder, its descriptor, and that of the lock in it, which is held."""
    while True:
        name = f"{PREFIX}{secrets.token_hex(4)}"
        os.mkdir(name, 0o700, dir_fd=around)
        opened = lock = None
        try:
            opened = os.open(name, _OPEN_FOLDER, dir_fd=around)
            lock = open_private(_LOCK, os.O_RDWR | os.O_CREAT, folder=opened)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(around, name, opened):
                return name, opened, lock
        except (FileNotFoundError, BlockingIOError):
            pass  # another start took it for a leftover before it was locked
        except OSError:
            _close(opened, lock)
            raise
        _close(opened, lock)


def _remove_left(around: int) -> None:
    """Remove the folders that no process has locked."""
    for name in os.listdir(around):
        if not name.startswith(PREFIX):
            continue
        opened = lock = None
        try:
            opened = os.open(name, _OPEN_FOLDER, dir_fd=around)
            with suppress(FileNotFoundError):  # it is killed before it has a lock
                lock = open_private(_LOCK, os.O_RDWR, folder=opened)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(around, name, opened)
        except OSError:
            continue  # it is in use, or not ours
        finally:
            _close(opened, lock)


def _remove(around: int, name: str, opened: int) -> None:
    for each in os.listdir(opened):
        with suppress(OSError):
            os.unlink(each, dir_fd=opened)
    with suppress(OSError):
        os.rmdir(name, dir_fd=around)


def _is_there(around: int, name: str, opened: int) -> bool:
    try:
        found = os.stat(name, dir_fd=around, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(opened))


def _close(*descriptors: int | None) -> None:
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)
