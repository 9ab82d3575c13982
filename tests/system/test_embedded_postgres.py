"""Who may run Postgres: root in a folder of its own, root where namespaces are refused, and other users.

Each test runs a parent in a mount namespace of its own. There the code, the packages and the interpreter
appear in a temporary clone with the modes that the case is about. Nothing outside is changed.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from libs.embedded.postgres import read_pid
from tests.integration.libs.embedded.holding import HOLDER, REPOSITORY

pytestmark = pytest.mark.system

DAEMON = 1  # any ordinary user with a name
NOBODY = 65534
STRANGER = 54321  # a uid without a name

# A mount can be entered where the folders above its source cannot.
MOUNT = """
clone=$1 code=$2 packages=$3 python=$4; shift 4
mount --bind "$code" "$clone/code"
mount --bind "$packages" "$clone/packages"
mount --bind "$python" "$clone/python"
"""
RUN = MOUNT + 'exec "$@"'
# In a chroot the kernel refuses new user namespaces (unshare(2), EPERM).
RUN_WITHOUT_NAMESPACES = MOUNT + 'mount --rbind / "$clone/root"; exec chroot "$clone/root" "$@"'


@pytest.fixture
def clone() -> Iterator[Path]:
    assert os.geteuid() == 0, "the system tests need root"
    with tempfile.TemporaryDirectory(prefix="tally-system-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in ("code", "packages", "python", "root", "home"):
            (folder / name).mkdir()
        yield folder


@contextmanager
def hold(clone: Path, script: str = RUN, uid: int = 0) -> Iterator[psutil.Process]:
    """Open Postgres on the clone's `home/data` as `uid`; yields its postmaster, and stops it."""
    with start(clone, script, uid) as parent:
        yield find_postmaster(clone, parent)
        assert parent.communicate() == ("", "")
        assert parent.returncode == 0


def start(clone: Path, script: str, uid: int) -> "subprocess.Popen[str]":
    places: list[str | Path] = [clone, REPOSITORY, sysconfig.get_path("platlib"), sys.base_prefix]
    python = clone / "python" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    holder = clone / "code" / HOLDER.relative_to(REPOSITORY)
    return subprocess.Popen(  # noqa: S603 - all of it is this module's
        [
            *("unshare", "--mount", "sh", "-euc", script, "sh", *places),
            *("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"),
            *(python, "-B", holder, "postgres", clone / "home" / "data"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{clone}/code:{clone}/code/libs/tally:{clone}/packages",
            "LD_LIBRARY_PATH": f"{clone}/python/lib",  # an interpreter may look for its own library by path
        },
    )


def find_postmaster(clone: Path, parent: "subprocess.Popen[str]") -> psutil.Process:
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith("postgresql://"), parent.communicate()[1]
    pid = read_pid(clone / "home" / "data" / "pgdata")
    assert pid is not None
    return psutil.Process(pid)


def find_owner(clone: Path) -> int:
    return (clone / "home" / "data" / "pgdata" / "PG_VERSION").stat().st_uid


def test_root_runs_it_in_a_folder_that_only_root_may_enter(clone: Path) -> None:
    clone.chmod(0o700)
    for _ in range(2):
        with hold(clone) as postmaster:
            inside, outside, length = Path(f"/proc/{postmaster.pid}/uid_map").read_text().split()
            assert inside != "0"
            assert (outside, length) == ("0", "1")
        assert find_owner(clone) == 0


def test_root_without_namespaces_runs_it_as_nobody_and_keeps_to_it(clone: Path) -> None:
    with hold(clone, RUN_WITHOUT_NAMESPACES) as postmaster:
        assert postmaster.uids().real == NOBODY
    with hold(clone) as postmaster:
        assert postmaster.uids().real == NOBODY
    assert find_owner(clone) == NOBODY


def test_root_without_namespaces_runs_it_as_the_owner_of_the_home_folder(clone: Path) -> None:
    os.chown(clone / "home", DAEMON, DAEMON)
    (clone / "home").chmod(0o700)
    with hold(clone, RUN_WITHOUT_NAMESPACES) as postmaster:
        assert postmaster.uids().real == DAEMON
    assert find_owner(clone) == DAEMON


def test_root_without_namespaces_in_a_folder_of_its_own_learns_the_ways_out(clone: Path) -> None:
    clone.chmod(0o700)
    with start(clone, RUN_WITHOUT_NAMESPACES, 0) as parent:
        output, errors = parent.communicate()
    assert parent.returncode == 1
    assert output == ""
    assert errors.startswith("not ready: Postgres does not run as uid 0")
    for way_out in ("ordinary user", "data folder", "TALLY_POSTGRES__DSN"):
        assert way_out in errors


@pytest.mark.parametrize(
    ("script", "uid"), [(RUN, 0), (RUN_WITHOUT_NAMESPACES, 0), (RUN, NOBODY), (RUN, STRANGER)]
)
def test_a_killed_parent_takes_the_server_along_whoever_runs_it(clone: Path, script: str, uid: int) -> None:
    os.chown(clone / "home", uid, uid)
    with start(clone, script, uid) as parent:
        postmaster = find_postmaster(clone, parent)
        parent.kill()
        postmaster.wait(30)


@pytest.mark.parametrize("uid", [NOBODY, STRANGER])
def test_an_ordinary_user_runs_it_with_a_name_or_without(clone: Path, uid: int) -> None:
    os.chown(clone / "home", uid, uid)
    (clone / "home").chmod(0o700)
    for _ in range(2):
        with hold(clone, uid=uid) as postmaster:
            assert postmaster.uids().real == uid
    assert find_owner(clone) == uid


def test_who_may_not_use_what_root_made_learns_of_chown(clone: Path) -> None:
    with hold(clone):
        pass
    data = clone / "home" / "data"
    with start(clone, RUN, NOBODY) as parent:
        output, errors = parent.communicate()
    assert (parent.returncode, output) == (1, "")
    assert errors.startswith(f"not ready: {data} belongs to root, and this process runs as nobody")
    assert f"chown -R nobody {data}" in errors
