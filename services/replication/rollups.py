"""Pure: rows of the rollups, what they are on the wire, and their hashes."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from services.replication.hashing import Sums
from services.replication.wire import unpack_checked
from tally.contract.errors import DataLoss, InvalidRequest, Violation
from tally.replication.v1 import peers_pb2 as pb

MODEL = "rollup"
"""The counting model: every level of the rollups is in it, so that a pass shows all of them at once."""
_COLUMNS = (
    "video_id text, event_type text, minute int4, generation int4, count int8, value_count int8, sum float8, "
    "min float8, max float8, m2 float8"
)
COLUMNS_HASH = hashlib.sha256(_COLUMNS.encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class RollupRow:
    """What happened to a video in a minute, of one generation."""

    video_id: str
    event_type: str
    minute: int
    generation: int
    count: int
    value_count: int
    sum: float
    min: float | None
    max: float | None
    m2: float


def row_of(record: Any) -> RollupRow:
    """A row from the columns of a database row, in their order."""
    return RollupRow(*record.values())


def key_of(row: RollupRow) -> pb.RollupKey:
    """Its key."""
    return pb.RollupKey(
        video_id=row.video_id, event_type=row.event_type, minute=row.minute, generation=row.generation
    )


def sum_rows(rows: Sequence[RollupRow], into: Sums) -> None:
    """Count and hash more rows."""
    for row in rows:
        into.add_digest(_digest(row))


def write_rollups(rows: Sequence[RollupRow]) -> pb.RollupColumns:
    """Rows as columns."""
    videos = {video: n for n, video in enumerate(dict.fromkeys(row.video_id for row in rows))}
    types = {kind: n for n, kind in enumerate(dict.fromkeys(row.event_type for row in rows))}
    valued = [row for row in rows if row.value_count]
    return pb.RollupColumns(
        video_ids=list(videos),
        videos=[videos[row.video_id] for row in rows],
        event_types=list(types),
        types=[types[row.event_type] for row in rows],
        minutes=_differences([row.minute for row in rows]),
        generations=_differences([row.generation for row in rows]),
        counts=[row.count for row in rows],
        value_counts=[row.value_count for row in rows] if valued else (),
        sums=[row.sum for row in valued],
        mins=[row.min or 0.0 for row in valued],
        maxs=[row.max or 0.0 for row in valued],
        m2s=[row.m2 for row in valued],
    )


def unpack_rollups(batch: pb.StateBatch) -> list[RollupRow]:
    """The rows of a batch. Raises InvalidRequest, and DataLoss for a wrong checksum."""
    return read_rollups(pb.RollupColumns.FromString(unpack_checked(batch)))


def read_rollups(columns: pb.RollupColumns) -> list[RollupRow]:
    """The rows of columns. Raises InvalidRequest where they do not fit together."""
    count = len(columns.counts)
    value_counts = list(columns.value_counts) or [0] * count
    valued = sum(1 for each in value_counts if each)
    widths = {
        "videos": (len(columns.videos), count),
        "types": (len(columns.types), count),
        "minutes": (len(columns.minutes), count),
        "generations": (len(columns.generations), count),
        "value_counts": (len(value_counts), count),
        "sums": (len(columns.sums), valued),
        "mins": (len(columns.mins), valued),
        "maxs": (len(columns.maxs), valued),
        "m2s": (len(columns.m2s), valued),
    }
    for name, (width, expected) in widths.items():
        if width != expected:
            raise InvalidRequest([Violation(name, f"has {width} rows, and should have {expected}")])
    statistics = zip(columns.sums, columns.mins, columns.maxs, columns.m2s, strict=True)
    try:
        return [
            RollupRow(
                columns.video_ids[video],
                columns.event_types[kind],
                minute,
                generation,
                events,
                values,
                *(next(statistics) if values else (0.0, None, None, 0.0)),
            )
            for video, kind, minute, generation, events, values in zip(
                columns.videos,
                columns.types,
                accumulate(columns.minutes),
                accumulate(columns.generations),
                columns.counts,
                value_counts,
                strict=True,
            )
        ]
    except IndexError:
        raise InvalidRequest([Violation("videos", "or types point outside of their dictionary")]) from None


def compare_sums(what: str, sent: Sums, received: Sums) -> None:
    """Raises DataLoss unless what was sent is what has arrived."""
    if sent != received:
        raise DataLoss(f"a {what} of counts had {sent} at the owner, and {received} here; it begins anew")


def _digest(row: RollupRow) -> bytes:
    """16 bytes over key and content; absent bounds differ from every number."""
    video, kind = row.video_id.encode(), row.event_type.encode()
    bounds = b"" if row.min is None or row.max is None else struct.pack(">dd", row.min, row.max)
    packed = struct.pack(
        ">iiiiqqdd",
        len(video),
        len(kind),
        row.minute,
        row.generation,
        row.count,
        row.value_count,
        row.sum,
        row.m2,
    )
    return hashlib.md5(packed + bounds + video + kind, usedforsecurity=False).digest()


def _differences(numbers: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise((0, *numbers))]
