"""The rollups as rows, read from blocks and from the table of before, in one snapshot."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from libs.domain.blocks import decode, encode
from libs.domain.cells import Cell, Cells
from libs.domain.runs import TYPE_BITS, sort_cells
from services.counting.flush.runs import add_run

MINUTE = "('x' || encode(substring(body from 9 for 8), 'hex'))::bit(64)::bigint"
"""The smallest minute of a block, within a statement."""
EVENTS = """(
    (select coalesce(sum(count), 0) from counting.rollup_row)
    + (select coalesce(sum(events), 0) from counting.rollup_block where generation > 0))"""
"""All events in the rollups, within a statement."""
_READ = """
select generation, null::bytea as body, video_id, event_type, minute, count, value_count, sum, min, max, m2
from counting.rollup_row
union all
select generation, body, null, null, null, null, null, null, null, null, null from counting.rollup_block
where generation > 0"""


class Key(NamedTuple):
    """Of a cell."""

    video_id: str
    event_type: str
    minute: int


async def read_rollups(connection: Any) -> dict[Key, Cell]:
    """Every key of the rollups, with what its cells add up to."""
    found: dict[Key, Cell] = {}
    for _, key, cell in await read_cells(connection):
        found[key] = found.get(key, Cell()).merge(cell)
    return found


async def read_counts(connection: Any) -> dict[tuple[str, str], int]:
    """The events of each video and event type."""
    found: dict[tuple[str, str], int] = {}
    for _, key, cell in await read_cells(connection):
        found[key[:2]] = found.get(key[:2], 0) + cell.count
    return found


async def count_of(connection: Any, video_id: str) -> int:
    """All events of a video."""
    return sum(n for (name, _), n in (await read_counts(connection)).items() if name == video_id)


async def read_cells(connection: Any) -> list[tuple[int, Key, Cell]]:
    """Every cell with its generation; a key may come several times."""
    found: list[tuple[int, Key, Cell]] = []
    for generation, body, *row in await connection.fetch(_READ):
        if body is None:
            found.append((generation, Key(*row[:3]), Cell(*row[3:])))
        else:
            found += [(generation, key, cell) for key, cell in cells_of_body(body)]
    return found


def cells_of_body(body: bytes) -> list[tuple[Key, Cell]]:
    """What one block says."""
    told = decode(body)
    cells, videos = told.cells, told.videos
    found = []
    for n, series in enumerate(cells.series.tolist()):
        video_id, event_type = videos[series >> int(TYPE_BITS)], told.types[series & 0xFFFFFFFF]
        cell = Cell(int(cells.count[n]))
        if cells.values is not None and cells.values.value_count[n]:
            cell = Cell(cell.count, *(column[n].item() for column in cells.values.columns()))
        found.append((Key(video_id.decode(), event_type.decode(), int(cells.minute[n])), cell))
    return found


async def add_counts(
    connection: Any, counts: Mapping[tuple[str, str, int], int], generation: int = 1
) -> None:
    """Add cells without values as one run, which no flush has written."""
    videos = list(dict.fromkeys(video.encode() for video, _, _ in counts))
    types = list(dict.fromkeys(kind.encode() for _, kind, _ in counts))
    cells = Cells(
        np.array(
            [videos.index(v.encode()) << int(TYPE_BITS) | types.index(t.encode()) for v, t, _ in counts],
            np.uint64,
        ),
        np.array([key[2] for key in counts], np.int64),
        np.array(list(counts.values()), np.int64),
    )
    blocks = [] if not counts else encode(sort_cells(videos, types, cells))
    async with connection.transaction():
        await add_run(connection, generation, blocks, 5_000)
