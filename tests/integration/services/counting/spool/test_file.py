"""The spool's file: what is on the disk, under which key, and what keeps a shard from using it."""

import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.domain.entry import Entry, Outcome
from services.counting.settings import SpoolSettings
from services.counting.spool.file import HeldElsewhere, NoRoom, Spooled, SpoolFile
from services.counting.spool.spool import open_spool
from tally.contract.errors import NotReady
from tests.support.entries import as_entry, cut_request, new_id

pytestmark = pytest.mark.exact

CLUSTER = uuid.uuid4()
RECEIVED_US = 1_700_000_000_000_000
MIB, MANY = 1024**2, 1_000_000


def entry_of(views: int = 1, request_id: uuid.UUID | None = None, video: str = "video") -> Entry:
    [entry] = cut_request({(video, "view"): views}, request_id)
    return as_entry(entry)


def open_file(path: Path, cluster_id: uuid.UUID = CLUSTER, max_bytes: int = MANY) -> SpoolFile:
    return SpoolFile(path, cluster_id, max_bytes, 0.0)


def disk_bytes(file: SpoolFile) -> int:
    return sum(each.stat().st_size for each in file.path.parent.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "folder" / "spool.sqlite"


@pytest.fixture
def file(path: Path) -> Iterator[SpoolFile]:
    opened = open_file(path)
    yield opened
    opened.close()


def test_what_was_answered_is_on_the_disk(file: SpoolFile, tmp_path: Path) -> None:
    """A copy of the files, taken while they are open, has it: that is what a crash leaves."""
    entry = entry_of(3)
    assert file.write([entry], RECEIVED_US) == [Outcome.SPOOLED]
    shutil.copytree(file.path.parent, tmp_path / "copy")
    left = open_file(tmp_path / "copy" / file.path.name)
    [spooled] = left.read(0, 10, MANY)
    left.close()
    assert (spooled.request_id, spooled.partition) == (entry.request_id, entry.partition)
    assert (spooled.request_hash, spooled.payload) == (entry.request_hash, entry.payload)
    assert (spooled.received_at_us, spooled.event_count) == (RECEIVED_US, 3)


def test_a_commit_waits_for_the_disk(file: SpoolFile) -> None:
    assert file._value("pragma journal_mode") == "wal"
    assert file._value("pragma synchronous") == 2  # FULL


def test_the_same_entry_again_is_spooled_once_and_keeps_its_first_receipt(file: SpoolFile) -> None:
    entry = entry_of()
    for at in (RECEIVED_US, RECEIVED_US + 1):
        assert file.write([entry], at) == [Outcome.SPOOLED]
    assert [spooled.received_at_us for spooled in file.read(0, 10, MANY)] == [RECEIVED_US]
    assert file.contents.entry_count == 1


def test_other_content_under_the_same_key_is_refused(file: SpoolFile) -> None:
    request_id = new_id()
    one, other = entry_of(1, request_id), entry_of(2, request_id)
    assert file.write([one, other, one], RECEIVED_US) == [
        Outcome.SPOOLED,
        Outcome.CONTENT_MISMATCH,
        Outcome.SPOOLED,
    ]
    assert file.write([other], RECEIVED_US) == [Outcome.CONTENT_MISMATCH]
    assert [spooled.payload for spooled in file.read(0, 10, MANY)] == [one.payload]


def test_one_request_has_an_entry_in_each_partition(file: SpoolFile) -> None:
    entries = [as_entry(sent) for sent in cut_request({(f"video {n}", "view"): 1 for n in range(20)})]
    assert len(entries) > 1
    assert file.write(entries, RECEIVED_US) == [Outcome.SPOOLED] * len(entries)
    assert file.contents.entry_count == len(entries)


def test_entries_come_out_in_their_order_a_share_at_a_time(file: SpoolFile) -> None:
    entries = [entry_of(n + 1) for n in range(10)]
    file.write(entries, RECEIVED_US)
    found: list[Spooled] = []
    while share := file.read(found[-1].id if found else 0, 3, MANY):
        assert len(share) <= 3
        found += share
    assert [spooled.request_id for spooled in found] == [entry.request_id for entry in entries]
    assert len(file.read(0, 10, 1)) == 1, "one that is larger than a share must come out too"


def test_what_is_deleted_is_gone_and_its_room_is_given_back(file: SpoolFile) -> None:
    file.write([entry_of(1000) for _ in range(200)], RECEIVED_US)
    full = file.contents
    size = disk_bytes(file)
    assert full.byte_count > 200 * 2000
    assert full.oldest_at_us == RECEIVED_US
    file.delete([spooled.id for spooled in file.read(0, 1000, MANY)])
    assert file.contents.entry_count == 0
    assert file.contents.oldest_at_us is None
    assert file.contents.byte_count < full.byte_count / 4
    assert disk_bytes(file) < size / 4
    assert not file.read(0, 10, MANY)


def test_a_full_spool_takes_nothing_of_a_group_and_something_again_when_there_is_room(path: Path) -> None:
    file = open_file(path, max_bytes=MIB)
    taken = 0

    def fill() -> None:
        nonlocal taken
        while True:
            file.write([entry_of(10_000) for _ in range(5)], RECEIVED_US)
            taken += 5

    with pytest.raises(NoRoom):
        fill()
    assert 0 < file.contents.byte_count <= MIB
    assert file.contents.entry_count == len(file.read(0, 1000, MANY)) == taken
    file.delete([spooled.id for spooled in file.read(0, 10, MANY)])
    assert file.write([entry_of(10_000)], RECEIVED_US) == [Outcome.SPOOLED]
    file.close()


_LOOK = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('select * from entry')"


def test_a_spool_belongs_to_one_process_at_a_time(path: Path) -> None:
    look = [sys.executable, "-c", _LOOK, str(path)]
    file = open_file(path)
    refused = subprocess.run(look, capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    file.close()
    assert "database is locked" in refused.stderr
    subprocess.run(look, check=True)  # noqa: S603 - our own code


def test_a_spool_that_is_held_says_what_to_do(file: SpoolFile) -> None:
    with pytest.raises(HeldElsewhere, match=r"another process has the spool .*TALLY_COUNTING__SPOOL__FOLDER"):
        open_file(file.path)


@pytest.mark.parametrize("at", [0, 4096, 20_000])
def test_a_damaged_spool_is_told_and_not_thrown_away(path: Path, at: int) -> None:
    file = open_file(path)
    file.write([entry_of(10_000) for _ in range(10)], RECEIVED_US)
    file.close()
    with path.open("r+b") as damaged:
        damaged.seek(at)
        damaged.write(b"\x5a" * 4096)
    before = path.read_bytes()
    with pytest.raises(NotReady, match=r"is damaged .*keep a copy"):
        open_file(path)
    assert path.read_bytes() == before


def test_entries_of_another_cluster_are_not_counted_in_this_one(path: Path) -> None:
    file = open_file(path)
    file.write([entry_of()], RECEIVED_US)
    file.close()
    other = uuid.uuid4()
    with pytest.raises(NotReady, match=f"holds 1 entries of another cluster .{CLUSTER}"):
        open_file(path, other)
    file = open_file(path)
    file.delete([spooled.id for spooled in file.read(0, 10, MANY)])
    file.close()
    open_file(path, other).close()  # an empty one is anybody's


def test_a_spool_is_opened_again_without_writing(path: Path) -> None:
    """On a disk that is full a shard must be able to start, and to drain what it has."""
    file = open_file(path)
    file.write([entry_of()], RECEIVED_US)
    file.close()
    file = open_file(path)
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    assert file.contents.entry_count == 1
    file.close()


def test_a_spool_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReady, match=r"cannot use the spool .*TALLY_COUNTING__SPOOL__FOLDER"):
        open_file(tmp_path / "file" / "spool.sqlite")


def test_an_error_of_our_own_is_no_lack_of_room(file: SpoolFile) -> None:
    file.close()
    with pytest.raises(sqlite3.ProgrammingError):
        file.write([entry_of()], RECEIVED_US)


async def test_shards_without_a_name_take_the_first_spool_that_nobody_has(tmp_path: Path) -> None:
    settings = SpoolSettings()
    async with open_spool(settings, tmp_path, "", CLUSTER) as first:
        async with open_spool(settings, tmp_path, "", CLUSTER) as second:
            assert first.path != second.path
            await first.write([entry_of()], RECEIVED_US)
        async with open_spool(settings, tmp_path, "", CLUSTER) as third:
            assert third.path == second.path
    async with open_spool(settings, tmp_path, "", CLUSTER) as again:
        assert again.path == first.path
        assert again.contents.entry_count == 1


async def test_a_shard_with_a_name_has_a_spool_of_its_own(tmp_path: Path) -> None:
    settings = SpoolSettings()
    async with (
        open_spool(settings, tmp_path, "a/b", CLUSTER) as one,
        open_spool(settings, tmp_path, "c", CLUSTER) as other,
    ):
        assert one.path.parent.parent == other.path.parent.parent == tmp_path / "spool"
        with pytest.raises(HeldElsewhere):
            async with open_spool(settings, tmp_path, "c", CLUSTER):
                pass
    folder = SpoolSettings(folder=tmp_path / "volume")
    async with open_spool(folder, tmp_path, "c", CLUSTER) as own:
        assert own.path.parent == tmp_path / "volume"
