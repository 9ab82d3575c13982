"""Files of accounts."""

import gzip
from pathlib import Path

import pytest

from services.cli.backfill.did_file import open_entries

DIDS = ["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:example.com"]
TEXT = (
    f"\ufeff# accounts\r\n\r\n{DIDS[0]}\r\n  {DIDS[1]},host.example # mine\r\nalice.example.com\r\n{DIDS[0]}"
)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_file_may_have_all_that_people_put_into_files(tmp_path: Path, is_compressed: bool) -> None:
    path = tmp_path / ("dids.txt.gz" if is_compressed else "dids.txt")
    path.write_bytes(gzip.compress(TEXT.encode()) if is_compressed else TEXT.encode())
    with open_entries(str(path)) as entries:
        assert list(entries) == [*DIDS, DIDS[0]]
    assert (entries.wrong, entries.wrong_count, entries.count) == ([(5, "alice.example.com")], 1, 3)


def test_a_csv_may_have_a_head(tmp_path: Path) -> None:
    path = tmp_path / "dids.csv"
    path.write_text(f"did,host\n{DIDS[0]},https://host\n")
    with open_entries(str(path)) as entries:
        assert list(entries) == DIDS[:1]
    assert entries.wrong_count == 0


def test_of_many_wrong_lines_the_first_are_told(tmp_path: Path) -> None:
    path = tmp_path / "dids.txt"
    path.write_text("x\n" * 50)
    with open_entries(str(path)) as entries:
        assert list(entries) == []
    assert (len(entries.wrong), entries.wrong_count) == (20, 50)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "dids.txt"
    path.write_bytes(b"\xff\xfe\0")
    with open_entries(str(path)) as entries, pytest.raises(UnicodeError):
        list(entries)
