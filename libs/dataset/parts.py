"""Parts: rows of one collection in a Parquet file, named by its content; written and read by DuckDB (ADR 23).

The same rows give the same bytes: one thread, a fixed order, a fixed size of row groups.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from libs.dataset.rows import Row

_ROW_GROUP = 20_480
"""rows; a bucket of a large part is a few groups"""
_SELECT = """
select bucket::smallint as bucket, did::varchar as did, collection::varchar as collection, rkey::varchar as rkey,
    uri::varchar as uri, cid::varchar as cid, rev::varchar as rev, created_at::varchar as created_at,
    time_us::bigint as time_us, time_source::varchar as time_source, subject::varchar as subject,
    has_video::boolean as has_video, text::varchar as text, languages::varchar as languages,
    record::varchar as record, unhex(cbor::varchar) as cbor
from columns order by bucket, did, rkey"""
_MEMORY = "512MB"
"""beyond it DuckDB writes to disk, if it has a folder"""
_COPY = "copy ({select}) to '{path}' (format parquet, compression zstd, row_group_size {row_group})"

_TYPES = {"bucket": np.int16, "time_us": np.int64, "has_video": np.bool_}


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was written, and where its file is."""

    name: str
    """of the object"""
    collection: str
    row_count: int
    byte_count: int
    path: Path


def open_duckdb(folder: Path | None = None) -> "duckdb.DuckDBPyConnection":
    """A database that reaches nothing but files, on one thread; in `folder` it holds more than memory does."""
    place = ":memory:" if folder is None else str(folder / "work.duckdb")
    connection = duckdb.connect(place, config={"threads": 1, "memory_limit": _MEMORY})
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "pandas_analyze_sample = 0",  # columns of texts are texts, even if all values of a sample are missing
        "python_enable_replacements = false",
        "enable_progress_bar = false",
    ):
        connection.execute(f"set {setting}")
    return connection


def write_part(connection: "duckdb.DuckDBPyConnection", rows: Sequence[Row], folder: Path) -> Part:
    """Write rows of one collection, at least one, into a file in `folder`."""
    collection = rows[0].collection
    path = folder / "part.parquet"
    columns = {
        name: _column(name, values) for name, values in zip(Row._fields, zip(*rows, strict=True), strict=True)
    }
    connection.register("columns", columns)
    try:
        # COPY takes no parameter for the path.
        quoted = str(path).replace("'", "''")
        connection.execute(_COPY.format(select=_SELECT, path=quoted, row_group=_ROW_GROUP))
    finally:
        connection.unregister("columns")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    final = path.rename(folder / f"{digest}.parquet")
    name = f"parts/{collection}/{digest}.parquet"
    return Part(name, collection, len(rows), final.stat().st_size, final)


def _column(name: str, values: Sequence[Any]) -> "np.ndarray[Any, np.dtype[Any]]":
    if name in _TYPES:
        return np.array(values, _TYPES[name])
    column = np.empty(len(values), object)
    # numpy drops zero bytes at the end of bytes; DuckDB reads hexadecimal.
    column[:] = [None if each is None else each.hex() for each in values] if name == "cbor" else values
    return column
