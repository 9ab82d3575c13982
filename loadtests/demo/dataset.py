"""Reading the data set: which rows count, and what is wrong with the others. See ../data/README.md."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

YEAR = 2017
"""The file itself names no year."""
_MONTHS = {"09": 9, "1": 10}
"""What stands behind the point of a date: it was a decimal number at some time, so `.1` was `.10`."""
_DATE = re.compile(r"(\d{1,2})\.(09|1)", re.ASCII)
_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """The counters of one video on one day, as they stood since its upload."""

    video_id: str
    title: str
    day: date
    views: int
    likes: int
    comments: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows that count, one for each video and day, in the order of the file; and how many do not."""

    rows: tuple[Row, ...]
    row_count: int
    bad_id_count: int
    bad_date_count: int
    replaced_count: int
    """rows that gave way to a later one of the same video and day"""

    @property
    def titles(self) -> dict[str, str]:
        """The title of each video; the last one, where the file has several."""
        return {row.video_id: row.title for row in sorted(self.rows, key=lambda row: row.day)}


def read_dataset(file: Path) -> Dataset:
    """Read the file. Raises OSError, and KeyError or ValueError when it is another file."""
    with file.open(encoding="utf-8", newline="") as text:
        return sort_out(csv.DictReader(text))


def sort_out(lines: Iterable[Mapping[str, str]]) -> Dataset:
    """Keep the rows that have a video id and a date; of two for one video and day, the later line."""
    rows: dict[tuple[str, date], Row] = {}
    row_count = bad_id_count = bad_date_count = replaced_count = 0
    for line in lines:
        row_count += 1
        if not _VIDEO_ID.fullmatch(line["video_id"]):
            bad_id_count += 1
        elif (day := parse_day(line["date"])) is None:
            bad_date_count += 1
        else:
            row = _row_of(line, day)
            replaced_count += (row.video_id, day) in rows
            rows[row.video_id, day] = row
    return Dataset(tuple(rows.values()), row_count, bad_id_count, bad_date_count, replaced_count)


def parse_day(text: str) -> date | None:
    """`13.09` is 13 September and `9.1` is 9 October; None for a date of another form."""
    if (found := _DATE.fullmatch(text)) is None:
        return None
    try:
        return date(YEAR, _MONTHS[found[2]], int(found[1]))
    except ValueError:
        return None


def _row_of(line: Mapping[str, str], day: date) -> Row:
    return Row(
        line["video_id"],
        line["title"],
        day,
        int(line["views"]),
        int(line["likes"]),
        int(line["comment_total"]),
    )
