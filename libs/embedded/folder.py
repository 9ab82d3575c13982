"""A server's data folder: private, locked by one Tally, with a place for the socket and a log."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from libs.domain.errors import NotReady

SOCKET_PATH_BYTES = 107  # sun_path of unix(7) holds 108, one of them the final zero


@contextmanager
def hold_folder(folder: Path) -> Iterator[Path]:
    """Make `folder` if need be and hold its lock; yields it as an absolute path. Raises NotReady.

    The lock ends with this process however it ends: Python opens files so that no program that it starts
    inherits them.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
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
def open_socket_folder(folder: Path, names: Sequence[str], place: Path | None = None) -> Iterator[Path]:
    """Yield a private folder where the longest of `names` has a path that is short enough for a socket.

    That is `place`, which the caller has from here and keeps while servers come and go; without one it is `folder`
    itself, or else a new temporary folder. A link in `folder` leads to it, so that the next
    start removes what a kill left behind. Files called `names` that are left in `folder` go too: Postgres would
    believe the pid in one of them, whose ever it is by now.
    """
    link = folder / "sockets"
    longest_name = max(names, key=len)
    if place is None:
        _remove_linked(link)
    for name in names:
        ((place or folder) / name).unlink(missing_ok=True)
    if place is not None:
        _give_like(folder, place)
        yield place
        return
    if _fits(folder, longest_name):
        yield folder
        return
    sockets = _make_short_folder(folder, longest_name)
    link.symlink_to(sockets)
    try:
        yield sockets
    finally:
        _remove_linked(link)


def rotate_log(log: Path) -> Path:
    """Begin a new log; the one before is kept beside it."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    log.touch()
    return log


def _fits(folder: Path, name: str) -> bool:
    # asyncpg takes a comma for the end of a host name.
    return len(os.fsencode(folder / name)) <= SOCKET_PATH_BYTES and "," not in str(folder)


def _make_short_folder(folder: Path, name: str) -> Path:
    for place in (tempfile.gettempdir(), "/tmp", "/dev/shm"):  # noqa: S108 - mkdtemp makes a private folder there
        if _fits(Path(place) / "tally-12345678", name) and os.access(place, os.W_OK):
            made = Path(tempfile.mkdtemp(prefix="tally-", dir=place))
            _give_like(folder, made)
            return made
    raise NotReady(
        f"The path of {folder} is too long for a unix socket, and so is that of every temporary folder. "
        "Take a data folder with a shorter path."
    )


def _give_like(folder: Path, place: Path) -> None:
    """Let `place` belong to whoever `folder` belongs to: its server need not run as the caller."""
    owner = folder.stat()
    os.chown(place, owner.st_uid, owner.st_gid)


def _remove_linked(link: Path) -> None:
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
