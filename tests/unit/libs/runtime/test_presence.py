"""Data that are removed while they are in use are noticed."""

from pathlib import Path

import pytest

from libs.runtime.presence import Presence
from tally.contract.errors import NotReady


def test_nothing_is_lost_before_it_is_there(tmp_path: Path) -> None:
    presence = Presence([tmp_path / "file"])
    assert presence.find_lost() is None
    (tmp_path / "file").write_text("1")
    assert presence.find_lost() is None
    (tmp_path / "file").write_text("changed")
    assert presence.find_lost() is None
    presence.close()


@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_was_there_and_is_removed_or_replaced_is_lost(tmp_path: Path, *, is_replaced: bool) -> None:
    file = tmp_path / "file"
    file.touch()
    presence = Presence([tmp_path, file])
    assert presence.find_lost() is None
    file.unlink()
    if is_replaced:
        file.touch()
    assert presence.find_lost() == file
    presence.close()


async def test_the_watch_ends_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    presence = Presence([file])
    assert presence.find_lost() is None
    file.unlink()
    with pytest.raises(NotReady, match=f"{file} was removed or replaced while it was in use"):
        await presence.watch()
