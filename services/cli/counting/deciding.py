"""`tally dead-letters replay` and `drop`: each letter once, with the outcomes."""

import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from services.cli.counting.dead_letters import open_letters, read_pages
from services.cli.terminal.calling import call, describe, is_unsettled
from services.cli.terminal.failure import INTERRUPTED, REFUSED, UNKNOWN, USAGE, Failure
from services.cli.terminal.output import open_console
from tally.client import Client, DeadLetter, DeadLetterState, Decision, TallyError
from tally.client.counting import Counting

_MOST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Verb:
    """A way to decide a letter."""

    name: str
    done: str
    """the state that it leads to"""
    method: Callable[[Counting, str], Coroutine[Any, Any, Decision]]


REPLAY = Verb("replay", DeadLetterState.REPLAYED, Counting.replay_dead_letter)
DROP = Verb("drop", DeadLetterState.DROPPED, Counting.drop_dead_letter)


@dataclass(slots=True)
class Totals:
    """The outcomes of the letters so far."""

    verb: Verb
    letters: int = 0
    events: int = 0
    before: int = 0
    """decided in the same way by an earlier call"""
    counted: int = 0
    """whose events turned out to be counted already"""
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)

    def note(self, decision: Decision) -> None:
        if decision.was_decided:
            self.before += 1
        elif decision.letter.state != self.verb.done:
            self.counted += 1
        else:
            self.letters += 1
            self.events += decision.letter.event_count

    def __str__(self) -> str:
        parts = [f"{self.verb.done} {_number(self.letters, 'letter')} with {_number(self.events, 'event')}"]
        parts += [f"{self.before} had been {self.verb.done} before"] if self.before else []
        parts += [f"dropped {self.counted} that were counted already"] if self.counted else []
        parts += [f"refused: {self.refused}"] if self.refused else []
        return "; ".join(parts)


def decide(verb: Verb, address: str, ids: Sequence[str], *, every: bool, yes: bool) -> None:
    """Decide the letters of these ids, or every one that waits. Prints what became of them. Raises Failure."""
    if bool(ids) == every:
        raise Failure(f"name the letters to {verb.name} by their ids, or all of them with --all", USAGE)
    letters = call(address, lambda client: _find(client, ids))
    if not letters:
        print("no dead letters")  # noqa: T201 - what was asked for
        return
    if not yes:
        _ask(verb, letters)
    totals = Totals(verb)
    try:
        call(address, lambda client: _decide_all(client, letters, totals, address))
    except KeyboardInterrupt:
        totals.failures.append(Failure("interrupted", INTERRUPTED))
    print(totals)  # noqa: T201 - what was asked for
    if totals.failures:
        worst = totals.failures[-1]
        raise Failure(f"{worst.message}. Run the same again: what is decided stays as it is", worst.exit_code)
    if totals.refused:
        raise Failure(f"{_number(totals.refused, 'letter')} could not be {verb.done}", REFUSED)


async def _find(client: Client, ids: Sequence[str]) -> Sequence[DeadLetter]:
    """The letters of the ids, each once; without any, all that wait."""
    async with open_letters(client) as letters:
        if not ids:
            return (await read_pages(letters, DeadLetterState.WAITING, _MOST)).letters
        return [
            (await letters.counting.get_dead_letter(each, max_events=1)).letter for each in dict.fromkeys(ids)
        ]


def _ask(verb: Verb, letters: Sequence[DeadLetter]) -> None:
    """Raises Failure unless the operator confirms."""
    if not sys.stdin.isatty():
        raise Failure(
            f"there is no terminal to confirm at: use --yes to {verb.name} without a question", USAGE
        )
    events = sum(letter.event_count for letter in letters)
    question = f"{verb.name} {_number(len(letters), 'letter')} with {_number(events, 'event')}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)  # noqa: T201 - it needs an answer
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was changed")


async def _decide_all(client: Client, letters: Sequence[DeadLetter], totals: Totals, address: str) -> None:
    """One after the other; a letter that is refused does not stop the rest, and one without an answer does."""
    async with open_letters(client) as service:
        with _open_progress(len(letters)) as report:
            for letter in letters:
                try:
                    totals.note(await totals.verb.method(service.counting, letter.id))
                except TallyError as error:
                    message = describe(error, address)
                    if is_unsettled(error):
                        totals.failures.append(Failure(f"stopped at {letter.id}: {message}", UNKNOWN))
                        return
                    totals.refused += 1
                    report.console.print(f"tally: {message}", soft_wrap=True)
                report.advance(report.task_ids[0])


@contextmanager
def _open_progress(total: int) -> Iterator[Progress]:
    console = open_console(stderr=True)
    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("letters"),
        console=console,
        disable=not console.is_terminal or total < 2,
        transient=True,
    )
    progress.add_task("", total=total)
    with progress:
        yield progress


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")
