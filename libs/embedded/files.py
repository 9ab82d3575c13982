"""Files in a data folder, opened so that a link of another user leads nowhere.

Root may run Tally on a data folder that belongs to somebody else. Whoever owns the folder could put a link to any file
of the machine where Tally expects a file of its own.
"""

import os
import pwd
import stat
from pathlib import Path

_MODE = 0o600


def open_private(path: str | Path, flags: int, *, folder: int | None = None) -> int:
    """Open a regular file, in the open `folder` if `path` is relative to it; the descriptor.

    Raises OSError for a link, a file with a second name, and whatever else is no plain file.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE, dir_fd=folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise OSError(f"{path} is not a plain file")
    return descriptor


def append_to(path: Path) -> int:
    """Open a file for appending, and create it if needed. Raises OSError, see `open_private`."""
    return open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write_new(path: Path, text: str) -> None:
    """Write a new file, which replaces any file of this name."""
    path.unlink(missing_ok=True)
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8") as file:
        file.write(text)


def rotate_log(log: Path) -> Path:
    """Begin a new log; the previous one is kept under another name."""
    if os.path.lexists(log):
        log.replace(log.with_name(f"{log.name}.1"))
    write_new(log, "")
    return log


def refuse_link_of_another(path: Path) -> None:
    """Raise PermissionError for a link that is not this user's own or root's, as the kernel does in /tmp."""
    if path.is_symlink() and (owner := path.lstat().st_uid) not in (0, os.geteuid()):
        raise PermissionError(f"{path} is a link that belongs to {describe_user(owner)}")


def describe_user(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
