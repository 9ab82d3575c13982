"""What the dataset and the counts must be after a load on the backfill. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.simulators.network import Network


@dataclass(frozen=True, slots=True)
class JobResult:
    """A job as the backfill reports it at the end."""

    is_done: bool
    repos: int
    stored: int
    failed: int
    records: int


def judge(
    network: Network,
    jobs: Mapping[str, Sequence[str]],
    results: Mapping[str, JobResult],
    counts: Mapping[tuple[str, str], int],
    counted_again: int,
) -> list[str]:
    """What is wrong; `jobs` are the accounts of each job, `counts` the counts by (video, event type)."""
    wrong = []
    for job_id, dids in jobs.items():
        accounts = set(dids)
        records = sum(len(network.world.records[did]) for did in accounts)
        expected = JobResult(True, len(accounts), len(accounts), 0, records)
        if results.get(job_id) != expected:
            wrong.append(f"job {job_id} is {results.get(job_id)}, not {expected}")
    truth = truth_of(network, jobs)
    wrong += [
        f"{kind} of {video}: counted {counts.get((video, kind), 0):,}, the repositories have {truth[video, kind]:,}"
        for video, kind in sorted(truth.keys() | counts.keys())
        if counts.get((video, kind), 0) != truth[video, kind]
    ]
    if counted_again:
        wrong.append(f"{counted_again:,} events were counted again")
    return wrong


def truth_of(network: Network, jobs: Mapping[str, Sequence[str]]) -> Counter[tuple[str, str]]:
    """How often each (video, event type) counts when the accounts of these jobs are in the dataset."""
    return network.world.truth(sorted({did for dids in jobs.values() for did in dids}))
