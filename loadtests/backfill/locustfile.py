"""Users who create jobs over repositories of a simulated host and count them, for locust.

At the end the dataset and the counts are compared with the repositories.

    make load SCENARIO=backfill

It needs a Tally that reaches the simulated host, as the one of `make load` does. Jobs overlap, are created twice, and
are counted by several users at once.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar
from uuid import uuid4

import gevent
import grpc
import grpc.experimental.gevent
from locust import User, constant_throughput, events, task
from locust.runners import LocalRunner
from locust.user.task import LOCUST_STATE_STOPPING

from loadtests.backfill.rpcs import BackfillRpcs
from loadtests.backfill.verdict import JobResult, judge, truth_of
from loadtests.report import print_calls
from loadtests.simulators.network import Network, make_network

# gRPC asks for this before its first object is made; locust patched the standard library when it was imported.
grpc.experimental.gevent.init_gevent()

ACCOUNTS, SEED = 60, 11
TASKS_PER_SECOND = 2  # of one user
MOST_OF_A_JOB = 10
STOP_SECONDS = 60.0
REST_SECONDS = 120.0


class Historian(User):
    """Creates jobs over some of the accounts, looks at them, and counts the dataset."""

    wait_time = constant_throughput(TASKS_PER_SECOND)
    network: ClassVar[Network]
    jobs: ClassVar[dict[str, list[str]]] = {}
    """the accounts of each job that was created"""
    wrong: ClassVar[list[str]] = []

    def on_start(self) -> None:
        self._rpcs = BackfillRpcs(str(self.host), self.environment.events.request.fire)
        self.create_a_job()  # the shortest run has something to show

    def on_stop(self) -> None:
        self._rpcs.close()

    def stop(self, force: bool = False) -> bool:
        """End after the task or the wait that is under way."""
        if force:
            return bool(super().stop(force))
        self._state = LOCUST_STATE_STOPPING
        return False

    @task(3)
    def create_a_job(self) -> None:
        job_id = f"load-{uuid4().hex[:8]}"
        dids = random.sample(self.network.dids, random.randint(1, MOST_OF_A_JOB))
        self.jobs[job_id] = dids  # also if its answer is lost: the end creates it again
        try:
            self._rpcs.create_job(job_id, dids)
            if random.random() < 0.5 and not self._rpcs.create_job(job_id, dids).was_there:
                self.wrong.append(f"job {job_id} was created twice")
        except grpc.RpcError:
            return

    @task(3)
    def look_at_a_job(self) -> None:
        job_id = random.choice(list(self.jobs))
        try:
            job = self._rpcs.get_job(job_id)
        except grpc.RpcError:
            return
        parts = job.waiting_count + job.ready_count + job.stored_count + job.failed_count
        if parts != job.repo_count:
            self.wrong.append(
                f"job {job_id} has {job.repo_count} accounts, and {parts} of them are somewhere"
            )

    @task(1)
    def count(self) -> None:
        try:
            self._rpcs.count_dataset()
        except grpc.RpcError:
            return


USERS = [Historian]


@contextmanager
def open_surroundings() -> Iterator[Mapping[str, str]]:
    """The simulated host in a process of its own; yields what a Tally needs to be set to reach it."""
    command = ["-m", "loadtests.simulators", "--accounts", str(ACCOUNTS), "--seed", str(SEED)]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as child:  # noqa: S603
        try:
            directory_url = child.stdout.readline().strip() if child.stdout else ""
            yield {
                "TALLY_BACKFILL__DIRECTORY__URL": directory_url,
                "TALLY_BACKFILL__DIRECTORY__PER_SECOND": "1000",
                "TALLY_BACKFILL__EGRESS__SIMULATED": "true",
                "TALLY_BACKFILL__POLL_SECONDS": "0.2",
                "TALLY_WORKER__FETCH__EGRESS__SIMULATED": "true",
                "TALLY_WORKER__FETCH__RATE_LIMIT": "1000000",
                "TALLY_WORKER__FETCH__LINGER_SECONDS": "0.1",
            }
        finally:
            child.terminate()


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prepare(environment: Any, runner: Any, **_: Any) -> None:
    """Let calls under way end before the users do, so that their outcome is known."""
    if not isinstance(runner, LocalRunner):
        raise SystemExit("tally: the jobs are kept in one process; run locust without workers")
    environment.stop_timeout = max(environment.stop_timeout, STOP_SECONDS)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def begin(**_: Any) -> None:
    Historian.network = make_network(ACCOUNTS, SEED)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prove(environment: Any, **_: Any) -> None:
    """Wait for the jobs, count, and compare. The exit code is 1 unless all of it is right."""
    environment.process_exit_code = 1
    network, jobs = Historian.network, Historian.jobs
    rpcs = BackfillRpcs(str(environment.host or Historian.host), lambda **_: None)
    try:
        results = wait_for_jobs(rpcs, jobs)
        count_all(rpcs)
        counted_again = sum(bucket.counted_count for bucket in rpcs.count_dataset())
        counts = {key: rpcs.read(*key) for key in truth_of(network, {"all": network.dids})}
    except grpc.RpcError as error:
        print(f"cannot read the jobs and counts back: {error.code().name}: {error.details()}")
        return
    finally:
        rpcs.close()
    wrong = [*Historian.wrong, *judge(network, jobs, results, counts, counted_again)]
    print_calls(environment.stats)
    for sentence in wrong[:10]:
        print(f"wrong: {sentence}")
    print(f"jobs                 {len(jobs):>10,}")
    print(f"events counted       {sum(counts.values()):>10,}")
    is_right = any(counts.values()) and not wrong and not environment.runner.exceptions
    print(f"verdict: {'right: dataset and counts are those of the repositories' if is_right else 'WRONG'}")
    if is_right:
        environment.process_exit_code = 0


def wait_for_jobs(rpcs: BackfillRpcs, jobs: Mapping[str, list[str]]) -> dict[str, JobResult]:
    """Every job when it is done, or after a while."""
    deadline = time.monotonic() + REST_SECONDS
    for job_id, dids in jobs.items():
        rpcs.create_job(job_id, dids)
    while True:
        results = {}
        for job_id in jobs:
            job = rpcs.get_job(job_id)
            results[job_id] = JobResult(
                job.done, job.repo_count, job.stored_count, job.failed_count, job.record_count
            )
        if all(result.is_done for result in results.values()) or time.monotonic() > deadline:
            return results
        gevent.sleep(0.2)


def count_all(rpcs: BackfillRpcs) -> None:
    """Count until every event has its receipt, or for a while."""
    deadline = time.monotonic() + REST_SECONDS
    while any(bucket.pending_count for bucket in rpcs.count_dataset()) and time.monotonic() < deadline:
        gevent.sleep(0.2)
