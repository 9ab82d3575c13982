"""Whose the files of a data folder are: links of another user are not followed, and chown is named where it helps."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from libs.embedded.folder import hold_folder
from libs.embedded.valkey import open_valkey
from services.counting.spool.file import SpoolFile
from tally.contract.errors import NotReady

pytestmark = pytest.mark.system

NOBODY = 65534
_CHECK = """
import os, sys
from pathlib import Path
from tally.contract.errors import NotReady
from libs.embedded.folder import check_owner
os.setresuid(65534, 65534, 65534)
try:
    check_owner(Path(sys.argv[1]))
except NotReady as error:
    print(error)
"""


def check_as_nobody(folder: Path) -> str:
    command = [sys.executable, "-c", _CHECK, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    made = tmp_path / "data"
    made.mkdir()
    return made


def test_a_data_folder_that_is_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o755)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "target")
    os.lchown(link, NOBODY, NOBODY)
    with pytest.raises(NotReady, match="is a link that belongs to nobody"), hold_folder(link):
        pass
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o755
    assert not list((tmp_path / "target").iterdir())


async def test_root_follows_no_link_in_a_folder_of_another_user(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    data = tmp_path / "data"
    data.mkdir()
    for name, target in {
        "valkey.log": precious / "file",
        "valkey.pid": precious / "file",
        "sockets": precious,
        "sockets-01234567": precious,
    }.items():
        (data / name).symlink_to(target)
        os.lchown(data / name, NOBODY, NOBODY)
    os.chown(data, NOBODY, NOBODY)
    async with open_valkey(data):
        pass
    assert (precious / "file").read_text() == "kept"


def test_a_spool_follows_no_link_of_another_user(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    folder = tmp_path / "spool"
    folder.mkdir()
    for name in ("reserve", "spool.sqlite"):
        (folder / name).symlink_to(precious)
        os.lchown(folder / name, NOBODY, NOBODY)
    with pytest.raises(NotReady, match="is a link that belongs to nobody"):
        SpoolFile(folder / "spool.sqlite", uuid.uuid4(), 1024**2, 0.0)
    (folder / "spool.sqlite").unlink()
    SpoolFile(folder / "spool.sqlite", uuid.uuid4(), 1024**2, 0.0).close()
    assert precious.read_text() == "kept"


@pytest.mark.parametrize("name", ["postgres", "valkey", "spool"])
def test_what_root_left_is_told_with_the_whole_folder(folder: Path, name: str) -> None:
    os.chown(folder, NOBODY, NOBODY)
    assert check_as_nobody(folder) == ""
    (folder / name).mkdir(mode=0o700)
    told = check_as_nobody(folder)
    assert told.startswith(f"{folder / name} belongs to root, and this process runs as nobody")
    assert f"chown -R nobody {folder}" in told


def test_a_folder_of_root_that_the_group_may_use_is_used(folder: Path) -> None:
    folder.chmod(0o777)
    assert check_as_nobody(folder) == ""
    folder.chmod(0o755)
    assert "chown -R nobody" in check_as_nobody(folder)
