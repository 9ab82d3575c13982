"""The table as it is printed, and as markdown."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.fault.table.round import Row

_COLUMNS = (
    "fault",
    "requests",
    "acknowledged",
    "unknown",
    "sent twice",
    "calls failed",
    "reads",
    "reads failed",
    "served again",
    "recovered",
    "verdict",
)


def print_table(console: Console, rows: Sequence[Row], seed: int) -> None:
    """All rows, then what is wrong with each."""
    table = Table(title=f"Faults under load, seed {seed}")
    for place, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if place in (0, len(_COLUMNS) - 1) else "right")
    for row in rows:
        table.add_row(*_cells(row), style="red" if row.wrong else None)
    console.print(table)
    console.print(f"{_summary(rows)} SEED={seed} makes the same choices again.")
    for row in rows:
        for sentence in row.wrong:
            console.print(f"{row.fault}: {sentence}", style="red", markup=False)


def to_markdown(rows: Sequence[Row], seed: int) -> str:
    """The same for a document."""
    lines = [
        f"Seed {seed}. {_summary(rows)}",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'|'.join(':--' if place in (0, len(_COLUMNS) - 1) else '--:' for place in range(len(_COLUMNS)))}|",
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
        "",
        *(f"- {row.fault}: {sentence}" for row in rows for sentence in row.wrong),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _summary(rows: Sequence[Row]) -> str:
    return (
        f"Rounds: {len(rows)}, broken: {sum(bool(row.wrong) for row in rows)}. "
        f"Requests: {sum(row.requests for row in rows):,}, acknowledged: {sum(row.acknowledged for row in rows):,}, "
        f"without an answer: {sum(row.unknown for row in rows):,}, "
        f"sent twice: {sum(row.duplicates for row in rows):,}."
    )


def _cells(row: Row) -> list[str]:
    counts = (
        row.requests,
        row.acknowledged,
        row.unknown,
        row.duplicates,
        row.failed,
        row.reads,
        row.failed_reads,
    )
    verdict = "; ".join(("BROKEN" if row.wrong else "holds", *row.notes))
    return [
        row.fault,
        *(f"{count:,}" for count in counts),
        _seconds(row.served_seconds),
        _seconds(row.recovered_seconds),
        verdict,
    ]


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"
