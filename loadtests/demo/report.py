"""What the demo shows: progress while it works, and the results."""

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from loadtests.demo.check import Verdict
from loadtests.demo.dataset import Dataset
from loadtests.demo.oracle import Oracle
from loadtests.demo.replay import IN_FLIGHT, Replay
from loadtests.demo.rises import EVENT_TYPES
from tally.client import Audit

_TOP = 10
_MOST_WRONG = 20


class _RateColumn(ProgressColumn):
    """How many a second: of late, and over all at the end."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


def make_progress(console: Console) -> Progress:
    """A bar for each phase, with rate and time left."""
    return Progress(
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def show_dataset(console: Console, dataset: Dataset, oracle: Oracle, name: str) -> None:
    """What was read, and what was not."""
    console.print(
        f"{name}: {dataset.row_count:,} rows, of which {dataset.bad_id_count:,} without a video id and "
        f"{dataset.bad_date_count:,} without a date are skipped, and {dataset.replaced_count:,} gave way to a "
        f"later one of the same day. They are {oracle.event_count:,} events of {len(oracle.video_ids):,} videos."
    )


def show_top(console: Console, dataset: Dataset, oracle: Oracle, verdict: Verdict) -> None:
    """The most viewed videos, as GetViewsCount has them, beside what the file implies."""
    table = _table(console, f"The {_TOP} most viewed videos")
    table.add_column("", justify="right")
    table.add_column("video", no_wrap=True)
    table.add_column("counted", justify="right")
    table.add_column("in the file", justify="right")
    table.add_column("title", no_wrap=True)
    titles = dataset.titles
    ranked = sorted(verdict.views.items(), key=lambda each: (-each[1], each[0]))
    for rank, (video_id, count) in enumerate(ranked[:_TOP], 1):
        implied = oracle.of_video[video_id, "view"]
        table.add_row(str(rank), video_id, f"{count:,}", f"{implied:,}", Text(titles[video_id]))
    console.print(table)


def show_totals(console: Console, oracle: Oracle, verdict: Verdict) -> None:
    """All videos together, by event type."""
    table = _table(console, "All videos")
    table.add_column("event type")
    table.add_column("counted", justify="right")
    table.add_column("in the file", justify="right")
    for event_type in EVENT_TYPES:
        table.add_row(event_type, f"{verdict.of_type[event_type]:,}", f"{oracle.of_type[event_type]:,}")
    console.print(table)


def show_speed(console: Console, replay: Replay, flushed_seconds: float) -> None:
    """How fast it went. `flushed_seconds`: from the first request to the last flush."""
    count = replay.event_count
    console.print(
        f"{count:,} events acknowledged in {replay.seconds:.1f} s: {count / replay.seconds:,.0f} events/s. "
        f"In the rollups after {flushed_seconds:.1f} s: {count / flushed_seconds:,.0f} events/s."
    )
    console.print(
        f"{len(replay.latencies_s):,} requests, {IN_FLIGHT} in flight, acknowledged within "
        f"{replay.latency_ms(50):,.0f} ms (p50), {replay.latency_ms(99):,.0f} ms (p99), "
        f"{replay.latency_ms(100):,.0f} ms (longest)."
    )


def show_verdict(console: Console, verdict: Verdict, audit: Audit, *, exact: bool) -> None:
    """Right or wrong, and what was."""
    console.print(
        f"{verdict.read_count:,} reads, {len(verdict.wrong):,} wrong. In the journal {audit.journaled_events:,} "
        f"events, in the rollups {audit.counted_events:,}, discrepancy {audit.discrepancy_events:,}."
    )
    for question, answer in verdict.wrong[:_MOST_WRONG]:
        what = question.event_type or "GetViewsCount"
        when = "in all" if question.start is None else f"on {question.start:%d %B}"
        console.print(
            f"wrong: {question.video_id} {what} {when}: {answer:,} instead of {question.expected:,}"
        )
    console.print(
        "Every count is exact." if exact else "NOT EXACT.", style="bold green" if exact else "bold red"
    )


def _table(console: Console, title: str) -> Table:
    box = SIMPLE if console.is_terminal else None  # in a file, lines are in the way
    return Table(title=title, title_justify="left", box=box)
