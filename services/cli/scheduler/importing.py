"""`tally videos import` and `tally channels import`: the rows of a file, put in batches. Harmless to repeat."""

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar

from services.cli.scheduler.member_rows import CHANNELS, VIDEOS, Kind
from services.cli.terminal.calling import call, describe, is_unsettled
from services.cli.terminal.failure import REFUSED, UNKNOWN, Failure
from services.cli.terminal.output import open_console
from services.cli.terminal.rows import BadLine, NoHeading, Row
from services.cli.terminal.source import open_source, read_lines
from tally.client import Client, TallyError
from tally.client.scheduler import Channel, Put, Video

T = TypeVar("T", Video, Channel)

_PIECE_LINES = 5_000


@dataclass(slots=True)
class Totals:
    """The results of the lines: the rows that were put, and lines that were left out."""

    put: Put = field(default_factory=Put)
    bad_lines: int = 0
    read_lines: int = 0
    last_line: int = 0
    """up to which all was put, or left out"""

    def to_json(self) -> str:
        """For programs."""
        return json.dumps({**asdict(self.put), "bad_lines": self.bad_lines}, indent=2)

    def describe(self, noun: str) -> str:
        """For people."""
        put = self.put
        return (
            f"{put.inserted_count} {noun} are new, {put.updated_count} changed, {put.unchanged_count} did not; "
            f"bad lines {self.bad_lines}"
        )


@dataclass(slots=True)
class _Piece(Generic[T]):
    """Lines that are put together."""

    rows: list[Row[T]] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)

    @property
    def lines(self) -> list[int]:
        return sorted([row.line for row in self.rows] + [bad.line for bad in self.bad])


def import_videos(file: str, address: str, *, skip_bad: bool, max_bad_percent: float) -> Totals:
    """Put the videos of a file. Raises Failure."""
    return _import(
        VIDEOS,
        lambda client, rows: client.scheduler.put_videos(rows),
        file,
        address,
        skip_bad=skip_bad,
        max_bad_percent=max_bad_percent,
    )


def import_channels(file: str, address: str, *, skip_bad: bool, max_bad_percent: float) -> Totals:
    """Put the channels of a file. Raises Failure."""
    return _import(
        CHANNELS,
        lambda client, rows: client.scheduler.put_channels(rows),
        file,
        address,
        skip_bad=skip_bad,
        max_bad_percent=max_bad_percent,
    )


def _import(
    kind: Kind[T],
    put: Callable[[Client, Sequence[T]], Awaitable[Put]],
    file: str,
    address: str,
    *,
    skip_bad: bool,
    max_bad_percent: float,
) -> Totals:
    totals = Totals()

    async def work(client: Client) -> None:
        await client.health()  # a service that is not there is reported before the file is read
        with open_source(file) as binary:
            try:
                for piece in _cut(kind.read(read_lines(binary))):
                    _note_bad(piece, totals, skip_bad=skip_bad)
                    totals.put += await _put(client, piece, put, address, totals)
                    totals.last_line = piece.lines[-1]
            except NoHeading as error:
                raise Failure(str(error)) from error

    call(address, work)
    bad_percent = 100.0 * totals.bad_lines / totals.read_lines if totals.read_lines else 0.0
    if bad_percent > max_bad_percent:
        raise Failure(
            f"{totals.describe(kind.noun)}. {bad_percent:.3g} % of the lines were bad, and {max_bad_percent:g} % are "
            "tolerated (--max-bad). The others were put. Mend the bad ones, and import the file again"
        )
    return totals


async def _put(
    client: Client,
    piece: _Piece[T],
    put: Callable[[Client, Sequence[T]], Awaitable[Put]],
    address: str,
    totals: Totals,
) -> Put:
    try:
        return await put(client, [row.value for row in piece.rows])
    except TallyError as error:
        raise Failure(
            f"{describe(error, address)} {_advice(piece, totals)}",
            UNKNOWN if is_unsettled(error) else REFUSED,
        ) from error


def _note_bad(piece: _Piece[T], totals: Totals, *, skip_bad: bool) -> None:
    totals.bad_lines += len(piece.bad)
    totals.read_lines += len(piece.lines)
    console = open_console(stderr=True)
    for bad in piece.bad:
        console.print(f"tally: line {bad.line}: {bad.problem}", soft_wrap=True)
    if piece.bad and not skip_bad:
        raise Failure(f"stopped. {_advice(piece, totals)} Or leave bad lines out with --skip-bad")


def _advice(piece: _Piece[T], totals: Totals) -> str:
    lines = piece.lines
    done = f"Lines up to {totals.last_line} were put" if totals.last_line else "Nothing was put"
    return (
        f"{done}; of lines {lines[0]} to {lines[-1]} perhaps some. "
        "Mend what is wrong and import the file again: what is there already is not written again."
    )


def _cut(rows: Iterable[Row[T] | BadLine]) -> Iterator[_Piece[T]]:
    piece: _Piece[T] = _Piece()
    for row in rows:
        if isinstance(row, BadLine):
            piece.bad.append(row)
        else:
            piece.rows.append(row)
        if len(piece.rows) + len(piece.bad) == _PIECE_LINES:
            yield piece
            piece = _Piece()
    if piece.rows or piece.bad:
        yield piece
