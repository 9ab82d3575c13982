"""A server's data folder: private, locked by one Tally, with a place for the socket and a log."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.domain.errors import NotReady

SOCKET_PATH_BYTES = 107  # sun_path of unix(7) holds 108, one of them the final zero


@contextmanager
def hold_folder(folder: Path) -> Iterator[Path]:
    """Make `folder` if need be and hold its lock; yields it as an absolute path. Raises NotReady.

    The lock ends with this process however it ends: Python opens files so that no child inherits them.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise NotReady(f"The data folder {folder} cannot be used: {error}. Take another one.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise NotReady(
                f"The data folder {folder} is in use by another Tally (pid {holder}). "
                "Stop that one, or take another data folder."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield folder


@contextmanager
def open_socket_folder(folder: Path, longest_name: str, owner: tuple[int, int] | None) -> Iterator[Path]:
    """Yield a private folder where a socket called `longest_name` has a path that is short enough.

    That is `folder` itself, or else a new folder for temporary files. A link in `folder` leads to it, so that
    the next start removes what a kill left behind.
    """
    link = folder / "sockets"
    _remove_linked(link)
    if _fits(folder, longest_name):
        yield folder
        return
    for place in (tempfile.gettempdir(), "/tmp", "/dev/shm"):  # noqa: S108 - mkdtemp makes a private folder there
        if not _fits(Path(place) / "tally-12345678", longest_name) or not os.access(place, os.W_OK):
            continue
        sockets = Path(tempfile.mkdtemp(prefix="tally-", dir=place))
        if owner is not None:
            os.chown(sockets, *owner)
        link.symlink_to(sockets)
        try:
            yield sockets
        finally:
            _remove_linked(link)
        return
    raise NotReady(
        f"The path of {folder} is too long for a unix socket, and so is that of every temporary folder."
    )


def rotate_log(log: Path) -> Path:
    """Begin a new log; the one before is kept beside it."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    log.touch()
    return log


def _fits(folder: Path, name: str) -> bool:
    # asyncpg takes a comma for the end of a host name.
    return len(os.fsencode(folder / name)) <= SOCKET_PATH_BYTES and "," not in str(folder)


def _remove_linked(link: Path) -> None:
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
