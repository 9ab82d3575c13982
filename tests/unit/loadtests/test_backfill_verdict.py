"""The verdict of the load on the backfill finds what is wrong."""

from collections.abc import Mapping

from loadtests.backfill.verdict import JobResult, judge, truth_of
from loadtests.simulators.network import make_network

NETWORK = make_network(4, seed=2)
JOBS = {"one": list(NETWORK.dids[:2]), "two": list(NETWORK.dids[1:3])}
TRUTH = dict(truth_of(NETWORK, JOBS))


def result_of(job_id: str) -> JobResult:
    records = sum(len(NETWORK.world.records[did]) for did in JOBS[job_id])
    return JobResult(True, 2, 2, 0, records)


RESULTS = {job_id: result_of(job_id) for job_id in JOBS}


def find(
    results: Mapping[str, JobResult] = RESULTS,
    counts: Mapping[tuple[str, str], int] = TRUTH,
    counted_again: int = 0,
) -> list[str]:
    return judge(NETWORK, JOBS, results, counts, counted_again)


def test_what_is_right_has_no_sentence() -> None:
    assert TRUTH
    assert find() == []
    assert find(counts={**TRUTH, ("at://nobody", "like"): 0}) == []


def test_jobs_and_counts_that_differ_from_the_repositories_are_found() -> None:
    (video, kind), count = next(iter(TRUTH.items()))
    fewer = JobResult(True, 2, 1, 1, result_of("one").records)
    assert any("job one is" in wrong for wrong in find({**RESULTS, "one": fewer}))
    assert any("job two is None" in wrong for wrong in find({"one": RESULTS["one"]}))
    assert any(f"counted {count + 1}" in wrong for wrong in find(counts={**TRUTH, (video, kind): count + 1}))
    assert any("counted 0" in wrong for wrong in find(counts={**TRUTH, (video, kind): 0}))
    assert any("counted 3" in wrong for wrong in find(counts={**TRUTH, ("at://nobody", "like"): 3}))
    assert any("2 events were counted again" in wrong for wrong in find(counted_again=2))
