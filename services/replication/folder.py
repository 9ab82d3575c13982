"""A folder on this machine as entries: an indexer of `IndexLocation`.

An entry's id follows from its location and its path, so indexing again finds the same ids. Files that cannot be taken
are named, and the rest is taken.
"""

import os
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from services.replication.checks import check_text
from services.replication.rows import EntryRow
from tally.contract.errors import InvalidRequest, Violation

MAX_SKIPPED = 100
_MAX_NAME_BYTES = 1024
_PAGE_ROWS = 1_000
_SAMPLE_BYTES = 8 * 1024
_FOLDERS = uuid.UUID("6e6f64e2-7b0c-5d5f-9a0b-3c1b7f6a2d10")


@dataclass(slots=True)
class Skipped:
    """Files that could not be taken: how many, and the first of them with the reason."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        if len(self.first) < MAX_SKIPPED:
            self.first.append(f"{path.encode(errors='backslashreplace').decode()}: {reason}")


def check_folder(text: str) -> Path:
    """Raises InvalidRequest for what is no folder that can be read."""
    folder = Path(text)
    problem = ""
    if found := check_text(text, "folder", _MAX_NAME_BYTES, least=1):
        problem = found[0].description
    elif not folder.is_absolute():
        problem = "must be an absolute path on the machine of the service"
    elif not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        problem = f"{text} is no folder that the service can read"
    if problem:
        raise InvalidRequest([Violation("folder", problem)])
    return folder


def location_of_folder(device: uuid.UUID, folder: Path) -> uuid.UUID:
    """The id of the location that a region makes of a folder: always the same."""
    return uuid.uuid5(_FOLDERS, f"{device}/{folder}")


def walk_folder(folder: Path, location: uuid.UUID, skipped: Skipped) -> Iterator[list[EntryRow]]:
    """The contents of a folder, in pages; a folder comes before its contents. Symbolic links are not followed."""
    page: list[EntryRow] = []
    waiting: list[tuple[Path, str, uuid.UUID | None]] = [(folder, "", None)]
    while waiting:
        here, relative, parent = waiting.pop()
        try:
            found = sorted(os.scandir(here), key=lambda each: os.fsencode(each.name))
        except OSError as error:
            skipped.add(str(here), error.strerror or str(error))
            continue
        for each in found:
            path = f"{relative}/{each.name}" if relative else each.name
            try:
                row = _row(each, path, location, parent)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                skipped.add(each.path, reason or str(error))
                continue
            if row.kind == "folder":
                waiting.append((Path(each.path), path, row.uuid))
            page.append(row)
            if len(page) == _PAGE_ROWS:
                yield page
                page = []
    if page:
        yield page


def _row(found: "os.DirEntry[str]", path: str, location: uuid.UUID, parent: uuid.UUID | None) -> EntryRow:
    """Raises OSError for what is unreadable or gone, and ValueError for what has no place in a table."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError("its name is not UTF-8") from None
    if wrong := check_text(found.name, "name", _MAX_NAME_BYTES, least=1):
        raise ValueError(f"its name {wrong[0].description}")
    status = found.stat(follow_symlinks=False)
    is_folder = stat.S_ISDIR(status.st_mode)
    if not is_folder and not stat.S_ISREG(status.st_mode):
        raise ValueError("it is neither a file nor a folder")
    return EntryRow(
        uuid.uuid5(location, path),
        location,
        parent,
        "folder" if is_folder else "file",
        found.name,
        0 if is_folder else status.st_size,
        0 if is_folder else max(0, status.st_mtime_ns // 1000),
        b"" if is_folder else _fingerprint(found.path, status.st_size),
        "",
        0,
    )


def _fingerprint(path: str, size: int) -> bytes:
    """A hash of the size and of samples from the beginning, the middle and the end."""
    hashed = xxhash.xxh3_64(size.to_bytes(8, "big"))
    with Path(path).open("rb") as file:
        for start in sorted({0, max(0, size // 2 - _SAMPLE_BYTES // 2), max(0, size - _SAMPLE_BYTES)}):
            file.seek(start)
            hashed.update(file.read(_SAMPLE_BYTES))
    return hashed.digest()
