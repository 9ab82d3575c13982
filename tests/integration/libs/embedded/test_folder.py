"""A data folder is this user's own: links in it are not followed, and what another process uses stays."""

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from libs.embedded.files import append_to, rotate_log, write_new
from libs.embedded.folder import hold_folder
from libs.embedded.sockets import open_socket_folder
from tally.contract.errors import NotReady
from tests.integration.libs.embedded.holding import hold, read_address


def test_a_link_in_the_place_of_the_lock_is_refused_and_its_target_kept(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "lock").symlink_to(precious)
    with pytest.raises(NotReady, match="must be a plain file: remove it"), hold_folder(folder):
        pass
    (folder / "lock").unlink()
    (folder / "lock").hardlink_to(precious)
    with pytest.raises(NotReady, match="must be a plain file: remove it"), hold_folder(folder):
        pass
    assert precious.read_text() == "kept"


def test_links_in_the_place_of_logs_and_other_files_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "log").symlink_to(precious)
    with pytest.raises(OSError, match="log"):
        append_to(tmp_path / "log")
    rotate_log(tmp_path / "log")
    assert (tmp_path / "log").read_text() == ""
    assert not (tmp_path / "log").is_symlink()
    (tmp_path / "file").symlink_to(precious)
    write_new(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert precious.read_text() == "kept"


def test_a_link_in_the_place_of_a_socket_folder_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    data = tmp_path / "data"
    data.mkdir()
    for name in ("sockets", "sockets-12345678"):
        (data / name).symlink_to(precious)
    with open_socket_folder(data) as sockets:
        sockets.prepare(["file"])
        assert stat.S_IMODE(sockets.path.stat().st_mode) == 0o700
    assert (precious / "file").exists()


def test_the_way_to_a_socket_is_short_and_leads_there_when_the_folder_is_moved(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 120) / "100%41, #?"
    with open_socket_folder(data) as sockets, socket.socket(socket.AF_UNIX) as listener:
        reach = str(sockets.reach / "socket")
        assert len(reach) < 60
        listener.bind(reach)
        listener.listen()
        data.rename(tmp_path / "elsewhere")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(reach)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_removed_socket_folder_is_made_again_under_the_same_way(tmp_path: Path) -> None:
    with open_socket_folder(tmp_path) as sockets:
        reach = sockets.reach
        (reach / "a").touch()
        assert sockets.find_missing(["a"]) is None
        shutil.rmtree(sockets.path)
        assert "was removed while it was in use" in str(sockets.find_missing(["a"]))
        sockets.prepare(["a"])
        assert sockets.reach == reach
        (sockets.reach / "a").touch()
        assert (sockets.path / "a").exists()


async def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    async with hold("valkey", tmp_path) as parent:
        await read_address(parent)
        (held,) = tmp_path.glob("sockets-*")
        with open_socket_folder(tmp_path) as sockets:
            assert set(tmp_path.glob("sockets-*")) == {held, sockets.path}
            assert (held / "valkey.sock").is_socket()
        parent.kill()
        await parent.wait()
        assert held.exists()
    with open_socket_folder(tmp_path) as sockets:
        assert list(tmp_path.glob("sockets-*")) == [sockets.path]


def test_a_data_folder_may_be_a_link_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    with hold_folder(tmp_path / "data"):
        assert (tmp_path / "disk" / "lock").read_text() == f"{os.getpid()}\n"
