"""Whom Postgres runs as: it refuses uid 0, and root's files may lie where no other user gets.

An ordinary user runs it as himself. Root runs it, in this order of preference:

1. as the owner of the data that is there, if that is not root;
2. as root seen as uid 1000, in a user namespace that maps this one id: the files stay root's;
3. as the owner of the folder around it (`sudo` in somebody's home folder), then as `nobody`. Both must be
   able to run the binaries and to enter the data folder, which is given to them.

Each is tried with the real binary in the real folder, since containers, mount options and the modes of the
folders above all have their say.
"""

import os
import pwd
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.domain.errors import NotReady
from libs.embedded.process import Process, read_tail

PROBE_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Identity:
    """`name` is for `launch`; `owner` is the (uid, gid) that files are given to, None where no need is."""

    name: str
    owner: tuple[int, int] | None = None


SELF = Identity("self")
NAMESPACE = Identity("namespace", (0, 0))


async def choose_identity(folder: Path, data: Path, binary: Path, log: Path) -> Identity:
    """Find who may run `binary` in `folder`, and give him the folder; `data` is what he made there before.

    Raises NotReady if nobody may.
    """
    if os.geteuid() != 0:
        return SELF
    for identity in _list_candidates(folder, data):
        give(folder, identity)
        if await _can_run(identity, folder, binary, log):
            return identity
    give(folder, NAMESPACE)
    raise NotReady(
        f"Postgres does not run as root, and nobody else can run it in {folder}. Run Tally as an ordinary "
        "user, or use a data folder and a clone that other users may enter, or set TALLY_POSTGRES__DSN to a "
        f"Postgres of yours. {read_tail(log)}"
    )


def give(path: Path, identity: Identity) -> None:
    if identity.owner is not None:
        os.chown(path, *identity.owner)


def _list_candidates(folder: Path, data: Path) -> Iterator[Identity]:
    if data.exists() and data.stat().st_uid != 0:
        yield _own(data)
        return
    yield NAMESPACE
    if data.exists():
        return
    if folder.parent.stat().st_uid != 0:
        yield _own(folder.parent)
    nobody = pwd.getpwnam("nobody")
    yield Identity(f"{nobody.pw_uid}:{nobody.pw_gid}", (nobody.pw_uid, nobody.pw_gid))


def _own(path: Path) -> Identity:
    owner = path.stat()
    return Identity(f"{owner.st_uid}:{owner.st_gid}", (owner.st_uid, owner.st_gid))


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
