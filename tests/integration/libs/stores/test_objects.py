"""The object store in a folder."""

from pathlib import Path

import pytest

from libs.stores.objects import Missing, Objects, folder_url
from tally.contract.errors import NotReady, Unavailable


async def test_an_object_is_read_as_it_was_written_and_never_overwritten(tmp_path: Path) -> None:
    objects = Objects(folder_url(tmp_path / "a b"))
    await objects.put("parts/x/1", b"first")
    await objects.put("parts/x/1", b"second")
    assert await objects.get("parts/x/1") == b"first"
    assert await objects.get_range("parts/x/1", 1, 3) == b"irs"
    assert (await objects.fetch("parts/x/1", tmp_path)).read_bytes() == b"first"
    (tmp_path / "file").write_bytes(b"of a file")
    await objects.put("parts/x/2", tmp_path / "file")
    assert await Objects(folder_url(tmp_path / "a b")).get("parts/x/2") == b"of a file"


async def test_an_object_that_is_not_there_is_named(tmp_path: Path) -> None:
    objects = Objects(folder_url(tmp_path))
    for reading in (objects.get("x"), objects.get_range("x", 0, 1), objects.fetch("x", tmp_path)):
        with pytest.raises(Missing, match="no object x"):
            await reading


async def test_a_store_that_refuses_is_unavailable(tmp_path: Path) -> None:
    objects = Objects(folder_url(tmp_path / "store"))
    (tmp_path / "store" / "parts").write_text("in the way")
    with pytest.raises(Unavailable, match="try again"):
        await objects.put("parts/x", b"1")


@pytest.mark.parametrize("url", ["nothing", "ftp://host/x", "file:///proc/nowhere", ""])
def test_a_url_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(NotReady, match="TALLY_OBJECTS_URL"):
        Objects(url)
