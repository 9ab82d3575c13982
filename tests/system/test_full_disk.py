"""A spool that has filled its disk to the last page gives its entries out, and its room back."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.counting.spool.file import NoRoom, SpoolFile
from tests.support.entries import as_entry, cut_request

pytestmark = pytest.mark.system

MIB = 1024**2
COUNTS = {(f"video {n}", "view"): 3 for n in range(40)}
NOW_US = 1_700_000_000_000_000


@pytest.fixture(params=[12, 20], ids=lambda size: f"{size} MiB")
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    options = f"size={request.param * MIB}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", tmp_path], check=True)  # noqa: S603, S607
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)  # noqa: S603, S607


def fill(file: SpoolFile) -> int:
    written = 0
    while True:
        entries = [as_entry(entry) for entry in cut_request(COUNTS)]
        try:
            file.write(entries, NOW_US)
        except NoRoom:
            return written
        written += len(entries)


def fill_the_rest(disk: Path) -> None:
    with (disk / "of others").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert not os.statvfs(disk).f_bavail


def test_entries_can_be_forgotten_on_a_disk_without_any_room(disk: Path) -> None:
    file = SpoolFile(disk / "spool.sqlite", uuid.uuid4(), 1024 * MIB, 0.0)
    try:
        for _ in range(2):
            written = fill(file)
            assert written
            fill_the_rest(disk)
            drained = 0
            while share := file.read(0, max_entries=200, max_events=10_000):
                file.delete([each.id for each in share])
                drained += len(share)
            assert drained == written
            assert file.contents.entry_count == 0
            assert file.path.stat().st_size < 64 * 1024
    finally:
        file.close()
