"""What users have reported, and the verdict on the runs. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run as the scheduler lists it at the end."""

    run_id: int
    is_done: bool
    members: int
    synced: int
    others: int
    """items with any other outcome"""


@dataclass(slots=True)
class Outcomes:
    """The reports that were answered, and the calls that were made."""

    members: Sequence[str]
    run_of_request: dict[str, int] = field(default_factory=dict)
    """by request id"""
    calls: int = 0
    """as a worker makes them of another company's api, each under a permit"""
    wrong: list[str] = field(default_factory=list)
    _batches: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    """the items of each batch that was reported, by slot and begin key"""

    def note_run(self, request_id: str, run_id: int) -> None:
        """A run was asked for; the same request must not plan another one."""
        known = self.run_of_request.setdefault(request_id, run_id)
        if known != run_id:
            self.wrong.append(
                f"request {request_id} planned run {known}, and run {run_id} when it was repeated"
            )

    def note_report(self, slot: str, begin_key: str, items: Sequence[str]) -> None:
        """A report was accepted."""
        known = self._batches.setdefault((slot, begin_key), items)
        if known != items:
            self.wrong.append(f"the batch at {begin_key} of slot {slot} was accepted with two sets of items")

    def judge(self, results: Sequence[RunResult], used_units: int, limit_units: int) -> list[str]:
        """What is wrong: with the answers, with the runs, and with the payments."""
        reported: defaultdict[int, Counter[str]] = defaultdict(Counter)
        for (slot, _), items in self._batches.items():
            reported[int(slot.partition("/")[0])].update(items)
        wrong = list(self.wrong)
        listed = {result.run_id for result in results}
        wrong += [f"run {run} is not listed" for run in self.run_of_request.values() if run not in listed]
        for result in results:
            wrong += self._judge_run(result, reported[result.run_id])
        if not self.calls <= used_units <= limit_units:
            wrong.append(f"{self.calls:,} calls were made, {used_units:,} units paid of {limit_units:,}")
        return wrong

    def _judge_run(self, result: RunResult, reported: Counter[str]) -> list[str]:
        run, count = f"run {result.run_id}", len(self.members)
        if not result.is_done:
            return [f"{run} has not ended"]
        wrong = [
            f"{member} was reported {reported[member]} times for {run}, and each report was accepted"
            for member in self.members
            if reported[member] != 1
        ]
        if (result.members, result.synced, result.others) != (count, count, 0):
            wrong.append(
                f"{run} has {result.members:,} members, {result.synced:,} synced and {result.others:,} others, not "
                f"{count:,} synced"
            )
        return wrong


def choose_zone(now: datetime) -> str:
    """A zone in which it is about noon, so that no quota day ends during the test."""
    return f"Etc/GMT{now.astimezone(UTC).hour - 12:+d}"
