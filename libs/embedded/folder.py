"""A server's data folder: private, owned by this user, and locked by one Tally."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.embedded.files import describe_user, open_private, refuse_link_of_another
from tally.contract.errors import NotReady


@contextmanager
def hold_folder(folder: Path) -> Iterator[Path]:
    """Make `folder` if need be and hold its lock; yields it as an absolute path. Raises NotReady.

    The lock ends with this process however it ends: Python opens files so that no program that it starts
    inherits them.
    """
    folder = folder.absolute()
    opened = open_folder(folder, is_private=True)
    try:
        try:
            lock = os.fdopen(open_private("lock", os.O_RDWR | os.O_CREAT, folder=opened), "r+")
        except OSError as error:
            raise NotReady(
                f"The lock {folder / 'lock'} cannot be used: {error}. It must be a plain file: remove it"
            ) from error
    finally:
        os.close(opened)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read().strip() or "unknown"
            raise NotReady(
                f"The data folder {folder} is in use by another Tally (pid {holder}). "
                "Stop that one, or take another data folder."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield folder


def open_folder(folder: Path, *, is_private: bool) -> int:
    """Open `folder`, and create it if needed; the descriptor. Others cannot enter a private one. Raises NotReady."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_link_of_another(folder)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if is_private:
                os.fchmod(opened, 0o700)
        except BaseException:
            os.close(opened)
            raise
    except OSError as error:
        raise _explain(folder, error) from error
    return opened


def list_data(data_dir: Path) -> list[Path]:
    """What must stay in a data folder while it is in use, if it is there at all: the folder, and Postgres's cluster."""
    pgdata = data_dir.absolute() / "postgres" / "pgdata"
    return [data_dir.absolute(), pgdata, pgdata / "global" / "pg_control"]


def check_owner(data_dir: Path) -> None:
    """Raise NotReady where this user cannot use what another one left in `data_dir`: root, who ran Tally once."""
    if os.geteuid() == 0:
        return
    try:
        found = [data_dir, *data_dir.iterdir()]
    except FileNotFoundError:
        return
    except OSError:
        found = [data_dir]
    for path in found:
        if _is_of_another(path) and not os.access(path, os.R_OK | os.W_OK | os.X_OK) and path.is_dir():
            raise _explain_owner(path, data_dir)


def _explain(folder: Path, error: OSError) -> NotReady:
    if isinstance(error, PermissionError):
        for path in (folder, *folder.parents):
            if path.exists():
                if _is_of_another(path) and os.geteuid() != 0:
                    return _explain_owner(path, path)
                break
    return NotReady(f"The data folder {folder} cannot be used: {error}. Take another one (TALLY_DATA_DIR)")


def _explain_owner(path: Path, whole: Path) -> NotReady:
    me = describe_user(os.geteuid())
    owner = describe_user(path.stat().st_uid)
    return NotReady(
        f"{path} belongs to {owner}, and this process runs as {me}, who cannot use it. Give it to {me} "
        f"(chown -R {me} {whole}, as root), run Tally as {owner}, or take another data folder (TALLY_DATA_DIR)"
    )


def _is_of_another(path: Path) -> bool:
    try:
        return path.stat().st_uid != os.geteuid()
    except OSError:
        return False
