"""`tally replay`: the events of a file, counted once however often the replay is cut off and run again."""

import os
import re
import stat
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.partitioner.pieces import Piece, ReplayIds, cut
from services.cli.partitioner.records import NoHeading, read_records
from services.cli.partitioner.sending import Answer, Sender, send_all
from services.cli.terminal.calling import call, describe, is_unsettled
from services.cli.terminal.connecting import client_options
from services.cli.terminal.failure import INTERRUPTED, REFUSED, UNKNOWN, Failure
from services.cli.terminal.output import open_console
from services.cli.terminal.source import open_source, read_lines
from tally.client import TallyError
from tally.client.blocking import Client
from tally.client.request_id import RequestIds

_EVENT = re.compile(r"columns\.\w+_(?:us|index)\[(\d+)\]")
"""The place of an event in a path of the service's."""


@dataclass(slots=True)
class Totals:
    """The results of the lines so far."""

    counted: int = 0
    duplicate: int = 0
    refused: int = 0
    bad_lines: int = 0
    read_lines: int = 0
    """good and bad, without blank ones and the heading"""
    last_line: int = 0
    """the last line of the last piece with an answer; answers are noted in the order of the file"""

    @property
    def bad_percent(self) -> float:
        """The share of the lines that were bad."""
        return 100.0 * self.bad_lines / self.read_lines if self.read_lines else 0.0

    def __str__(self) -> str:
        return (
            f"counted {self.counted}, duplicate {self.duplicate}, refused {self.refused}, "
            f"bad lines {self.bad_lines}"
        )


class Replay:
    """One run over a file. It stops at the first thing that goes wrong, or leaves bad lines out."""

    def __init__(self, address: str, report: Progress, *, skip_bad: bool) -> None:
        self.totals = Totals()
        self.failure: Failure | None = None
        self.has_sent = False
        self._address = address
        self._report = report
        self._skip_bad = skip_bad

    def run(self, pieces: Iterable[Piece], sender: Sender) -> Generator[Totals, None, None]:
        """Send the pieces; yields the totals after each answer. Closing it stops the sender."""
        with closing(send_all(self._good(pieces), sender.send, sender.stop)) as answers:
            for answer in answers:
                self._note(answer)
                yield self.totals

    def _good(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Those that may be sent, until something is wrong."""
        try:
            for piece in pieces:
                if self.failure:
                    return
                self._note_bad_lines(piece)
                if self.failure:
                    return
                if piece.events:
                    self.has_sent = True
                    yield piece
        except NoHeading as error:
            self._fail(str(error), REFUSED)

    def _note_bad_lines(self, piece: Piece) -> None:
        self.totals.bad_lines += len(piece.bad_lines)
        self.totals.read_lines += len(piece.bad_lines) + len(piece.events)
        for bad in piece.bad_lines:
            self._say(f"line {bad.line}: {bad.problem}")
        if piece.bad_lines and not self._skip_bad:
            self._fail(
                f"stopped: nothing of {piece} was sent. Mend what is bad, or leave it out with --skip-bad",
                REFUSED,
            )

    def _note(self, answer: Answer) -> None:
        piece, totals = answer.piece, self.totals
        if answer.receipt:
            totals.counted += answer.receipt.accepted_count
            totals.duplicate += answer.receipt.duplicate_count
            totals.last_line = piece.last_line
        elif answer.error:
            self._note_error(piece, answer.error)

    def _note_error(self, piece: Piece, error: TallyError) -> None:
        if is_unsettled(error):
            self._fail(f"no answer for {piece}: {describe(error, self._address)}", UNKNOWN)
            return
        self.totals.last_line = piece.last_line
        self.totals.refused += len(piece.events)
        self._say(f"the service refuses {piece}: {error.message}")
        for violation in error.violations:
            if found := _EVENT.fullmatch(violation.field):
                self._say(f"line {piece.event_lines[int(found[1])]}: {violation.description}")
        if not self._skip_bad:
            self._fail(f"stopped, because the service refuses {piece}", REFUSED)

    def _fail(self, message: str, exit_code: int) -> None:
        if self.failure is None or exit_code > self.failure.exit_code:
            self.failure = Failure(message, exit_code)

    def _say(self, message: str) -> None:
        self._report.console.print(f"tally: {message}", soft_wrap=True)


def replay(
    file: str, address: str, *, skip_bad: bool, max_bad_percent: float, resume: str | None, patience_s: float
) -> None:
    """Send the events of `file`, and print the totals. `resume`: the id of a replay that was cut off.

    Raises Failure when not everything was counted, but for bad lines that are left out and no more than
    `max_bad_percent` of all.
    """
    replay_id = uuid.UUID(resume or RequestIds().make())
    call(address, lambda client: client.health())  # a service that is not there is told at once
    with open_source(file) as binary, _open_progress() as progress:
        progress.console.print(
            f"tally: if this is cut off, run it again with --resume {replay_id}", soft_wrap=True
        )
        text = read_lines(binary)
        this = Replay(address, progress, skip_bad=skip_bad)
        try:
            with Client(address, **client_options()) as client:
                sender = Sender(client, ReplayIds(replay_id), patience_s)
                with closing(this.run(cut(read_records(text)), sender)) as all_totals:
                    _follow(all_totals, progress, binary)
        except KeyboardInterrupt:
            this.failure = Failure(f"interrupted after line {this.totals.last_line}", INTERRUPTED)
    print(this.totals)  # noqa: T201 - what was asked for
    if this.failure:
        how = (
            f"To go on, run the same again with --resume {replay_id}: what was counted is not counted again."
        )
        raise Failure(f"{this.failure.message}. {how}", this.failure.exit_code)
    if this.totals.refused:
        raise Failure(f"{this.totals.refused} events were refused", REFUSED)
    if this.totals.bad_percent > max_bad_percent:
        raise Failure(
            f"{this.totals.bad_lines:,} of {this.totals.read_lines:,} lines were bad "
            f"({this.totals.bad_percent:.3g} %), and {max_bad_percent:g} % are tolerated (--max-bad). The others were "
            "counted. Mend the bad ones in a file of their own, and replay that",
            REFUSED,
        )


def _follow(all_totals: Iterator[Totals], progress: Progress, binary: BinaryIO) -> None:
    size = _size_of(binary)
    bar = progress.add_task("", total=size, counts="", rate="")
    for totals in all_totals:
        answered = totals.counted + totals.duplicate
        elapsed_s = progress.tasks[bar].elapsed or 0.0
        progress.update(
            bar,
            completed=0 if size is None else binary.tell(),
            counts=f"line {totals.last_line:,}",
            rate=f"{answered / elapsed_s:,.0f} events/s" if elapsed_s else "",
        )
    if size is not None:
        progress.update(bar, completed=binary.tell())


def _size_of(binary: BinaryIO) -> int | None:
    status = os.fstat(binary.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _open_progress() -> Progress:
    console = open_console(stderr=True)
    return Progress(
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TextColumn("{task.fields[rate]}", style="progress.data.speed"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
