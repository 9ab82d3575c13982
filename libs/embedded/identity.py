"""Whom Postgres runs as: it refuses uid 0, initdb a uid without a name, and root's files may lie where no other
user gets.

An ordinary user runs it as himself. Root runs it, in this order of preference:

1. as the owner of the data that is there, if that is not root;
2. as root by another number, in a user namespace that maps this one id: the files stay root's;
3. as the owner of the folder around it (`sudo` in somebody's home folder), then as `nobody`. Both must be
   able to run the binaries and to enter the data folder, which is given to them.

Each is tried with the real binary in the real folder, since containers, mount options and the modes of the
folders above all have their say. A user without a name (a container's arbitrary uid) takes the second way.
"""

import os
import pwd
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.embedded.process import Process, read_tail
from tally.contract.errors import NotReady

PROBE_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Identity:
    """`name` is for `launch`; `owner` is the (uid, gid) that files are given to, None for the caller's own."""

    name: str
    owner: tuple[int, int] | None = None


SELF = Identity("self")


async def choose_identity(folder: Path, data: Path, binary: Path, log: Path) -> Identity:
    """Find who may run `binary` in `folder`, and give him the folder; `data` is what he made there before.

    Raises NotReady if no identity may.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return SELF
    for identity in _list_candidates(folder, data):
        if _try_to_give(folder, identity) and await _can_run(identity, folder, binary, log):
            return identity
    give(folder, SELF)
    raise NotReady(
        f"Postgres does not run as uid {os.geteuid()}, and no other user can run it in {folder}. Run Tally as an "
        "ordinary user, or use a data folder and a clone that other users may enter, or set "
        f"TALLY_POSTGRES__DSN to a Postgres of yours. {read_tail(log)}"
    )


def give(path: Path, identity: Identity) -> None:
    """Make `path` belong to `identity`; only root can give away, and take back."""
    if os.geteuid() == 0:
        os.chown(path, *(identity.owner or (0, 0)))


def _try_to_give(path: Path, identity: Identity) -> bool:
    try:
        give(path, identity)
    except PermissionError:  # root without CAP_CHOWN, as in some containers
        return False
    return True


def _list_candidates(folder: Path, data: Path) -> Iterator[Identity]:
    owner = data.stat().st_uid if data.exists() else None
    if owner in (None, os.geteuid()):
        yield from _list_namespaces()
    if os.geteuid() != 0 or owner == 0:
        return
    if owner is not None:
        yield _become_owner(data)
        return
    around = folder.parent.stat().st_uid
    if around != 0 and _has_name(around):
        yield _become_owner(folder.parent)
    if (nobody := _find_uid("nobody")) is not None:
        gid = pwd.getpwuid(nobody).pw_gid
        yield Identity(f"user:{nobody}:{gid}", (nobody, gid))


def _list_namespaces() -> Iterator[Identity]:
    # Any uid with a name will do; nobody's comes last, as it is also shown for ids that are not mapped.
    for name in ("daemon", "bin", "nobody"):
        if (uid := _find_uid(name)) is not None:
            yield Identity(f"namespace:{uid}")
            return


def _become_owner(path: Path) -> Identity:
    owner = path.stat()
    return Identity(f"user:{owner.st_uid}:{owner.st_gid}", (owner.st_uid, owner.st_gid))


def _find_uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


async def _can_run(identity: Identity, folder: Path, binary: Path, log: Path) -> bool:
    probe = Process.start(
        "Postgres",
        [binary, "--version"],
        folder=folder,
        log=log,
        death_signal=signal.SIGKILL,
        identity=identity.name,
    )
    try:
        await probe.finish(PROBE_TIMEOUT_SECONDS)
    except NotReady:
        return False
    finally:
        await probe.stop([(signal.SIGKILL, PROBE_TIMEOUT_SECONDS)])
    return True
