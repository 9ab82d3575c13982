"""Comparing Tally's counts with the oracle's, one read at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from loadtests.demo.oracle import Oracle
from loadtests.demo.rises import EVENT_TYPES
from loadtests.demo.side_by_side import run_side_by_side
from tally.client import Audit, Client

_READS_AT_ONCE = 16
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Question:
    """One read, and the answer that the file implies. `start` is None for the total, else a day begins there.

    `event_type` is empty for GetViewsCount, and otherwise that of GetCount.
    """

    video_id: str
    event_type: str
    start: datetime | None
    expected: int


@dataclass(slots=True)
class Verdict:
    """What the reads answered."""

    read_count: int = 0
    views: dict[str, int] = field(default_factory=dict)
    """of each video, from GetViewsCount"""
    of_type: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENT_TYPES, 0))
    """the sums of the totals from GetCount"""
    wrong: list[tuple[Question, int]] = field(default_factory=list)
    """the questions with another answer, and that answer"""


def ask_everything(oracle: Oracle) -> Iterator[Question]:
    """Of each video: the views, the total of each type, and each type on one day."""
    for video_id in oracle.video_ids:
        yield Question(video_id, "", None, oracle.of_video[video_id, "view"])
        day = oracle.busy_day.get(video_id)
        for event_type in EVENT_TYPES:
            yield Question(video_id, event_type, None, oracle.of_video[video_id, event_type])
            if day is not None:
                start = datetime(day.year, day.month, day.day, tzinfo=UTC)
                yield Question(video_id, event_type, start, oracle.of_day[video_id, event_type, day])


async def check(client: Client, questions: Iterator[Question], on_read: Callable[[], None]) -> Verdict:
    """Ask them all; `on_read` is told of each answer. Raises TallyError."""
    verdict = Verdict()

    async def read() -> None:
        for question in questions:  # one iterator for all: each takes the next question when it is free
            answer = await _ask(client, question)
            _note(verdict, question, answer)
            on_read()

    await run_side_by_side(read, _READS_AT_ONCE)
    return verdict


def is_exact(verdict: Verdict, audit: Audit, oracle: Oracle) -> bool:
    """Whether every answer was right, and journal and rollups hold as many events as the file implies."""
    whole = audit.discrepancy_events == 0 and audit.counted_events == oracle.event_count
    return whole and not verdict.wrong and verdict.read_count > 0


async def _ask(client: Client, question: Question) -> int:
    if not question.event_type:
        return (await client.get_views_count(question.video_id, timeout=_TIMEOUT_S)).count
    end = None if question.start is None else question.start + timedelta(days=1)
    count = await client.get_count(
        question.video_id, question.event_type, start=question.start, end=end, timeout=_TIMEOUT_S
    )
    return count.count


def _note(verdict: Verdict, question: Question, answer: int) -> None:
    verdict.read_count += 1
    if not question.event_type:
        verdict.views[question.video_id] = answer
    elif question.start is None:
        verdict.of_type[question.event_type] += answer
    if answer != question.expected:
        verdict.wrong.append((question, answer))
