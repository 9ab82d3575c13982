"""Users who lease, work and report as workers do, for locust, and at the end the proof that each member of each run has
one outcome.

    make load SCENARIO=sync

It is for a throw-away Tally, and refuses one that has videos: its outcomes are made up. Some users die with a lease,
some send a request twice, and some give a slot back.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, ClassVar
from uuid import uuid4

import gevent
import grpc
import grpc.experimental.gevent
from locust import User, constant_throughput, events, task
from locust.runners import LocalRunner
from locust.user.task import LOCUST_STATE_STOPPING

from loadtests.report import print_calls
from loadtests.sync.outcomes import Outcomes, RunResult, choose_zone
from loadtests.sync.rpcs import HANDLER, POPULATION, SyncRpcs, is_lost
from tally.scheduler.v1 import job_pb2 as jobs
from tally.scheduler.v1 import work_pb2 as work

# gRPC asks for this before its first object is made; locust patched the standard library when it was imported.
grpc.experimental.gevent.init_gevent()

MEMBERS = 200
BATCH, SLOT_SIZE = 5, 20
TASKS_PER_SECOND = 10  # of one user
STOP_SECONDS = 30.0
LIMIT_UNITS = 1_000_000
DRAIN_SECONDS = 90.0
_CALL_SECONDS = 0.005
_PERIOD_HOURS = 24 * 28


class Worker(User):
    """Mostly leases and reports; now and then asks for a run."""

    wait_time = constant_throughput(TASKS_PER_SECOND)
    outcomes: ClassVar[Outcomes]
    name: ClassVar[str]
    """of the job and its quota"""

    def on_start(self) -> None:
        self._rpcs = SyncRpcs(str(self.host), self.environment.events.request.fire)
        self._worker, self._numbers = f"load-{uuid4().hex[:8]}", count(1)
        self.ask_for_a_run()  # the shortest run has something to show

    def on_stop(self) -> None:
        self._rpcs.close()

    def stop(self, force: bool = False) -> bool:
        """End after the task or the wait that is under way."""
        if force:
            return bool(super().stop(force))
        self._state = LOCUST_STATE_STOPPING
        return False

    @task(1)
    def ask_for_a_run(self) -> None:
        request_id = str(uuid4())
        try:
            for _ in range(random.choice((1, 2))):
                self.outcomes.note_run(request_id, self._rpcs.run_job(self.name, request_id).id)
        except grpc.RpcError:
            return

    @task(20)
    def work_on_a_slot(self) -> None:
        number = next(self._numbers)
        try:
            lease = self._rpcs.lease(self._worker, number)
            if lease is None:
                return
            if random.random() < 0.1:  # its answer was lost
                lease = self._repeat(number, lease)
            work_off(
                self._rpcs, self.outcomes, lease, random.choices(("all", "die", "return"), (18, 1, 1))[0]
            )
        except grpc.RpcError as error:
            if not is_lost(error):
                return

    def _repeat(self, number: int, lease: work.Lease) -> work.Lease:
        again = self._rpcs.lease(self._worker, number)
        if again is None or (again.slot, again.token) != (lease.slot, lease.token):
            if again is not None and again.slot == lease.slot and again.token > lease.token:
                return again  # it had expired
            self.outcomes.wrong.append(
                f"request {number} of {self._worker} leased {lease.slot}, and then another"
            )
            return lease
        return again


def work_off(rpcs: SyncRpcs, outcomes: Outcomes, lease: work.Lease, fate: str = "all") -> None:
    """Call and report, batch by batch; `fate`: "die" with the last batch unreported, or "return" it unsent.

    Raises grpc.RpcError.
    """
    asked_at = time.monotonic()
    send_before = asked_at + lease.permit.wait_seconds + lease.permit.send_within_seconds
    for batch in lease.batches:
        is_last = batch is lease.batches[-1]
        if time.monotonic() > send_before or (fate == "return" and is_last):
            rpcs.give_back(lease)
            return
        outcomes.calls += 1
        gevent.sleep(_CALL_SECONDS)
        if fate == "die" and is_last:
            return
        asked_at = time.monotonic()
        answer = rpcs.report(lease, batch)
        outcomes.note_report(lease.slot, batch.begin_key, [item.id for item in batch.items])
        if random.random() < 0.05 and not (again := rpcs.report(lease, batch)).repeated_answer:
            outcomes.wrong.append(
                f"slot {lease.slot} took the batch at {batch.begin_key} twice, and recorded {again.recorded_count}"
            )
        if answer.state != work.SLOT_STATE_LEASED:
            return
        send_before = asked_at + answer.permit.wait_seconds + answer.permit.send_within_seconds


USERS = [Worker]


@contextmanager
def open_surroundings() -> Iterator[Mapping[str, str]]:
    """Yields what a throw-away Tally is set to: slots of users that die are soon leased again."""
    yield {"TALLY_SCHEDULER__LEASE_SECONDS": "1"}


def make_job(name: str) -> jobs.Job:
    return jobs.Job(
        name=name,
        rationale="a load test",
        sla_hours=2 * _PERIOD_HOURS,
        population=POPULATION,
        handler=HANDLER,
        cadence=jobs.Cadence(period=jobs.Period(period_hours=_PERIOD_HOURS, bin_max=1, offsets=[0])),
        batch=BATCH,
        slot_size=SLOT_SIZE,
        quotas={name: 1},
    )


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prepare(environment: Any, runner: Any, **_: Any) -> None:
    """Let calls under way end before the users do, so that their outcome is known."""
    if not isinstance(runner, LocalRunner):
        raise SystemExit("tally: what was reported is kept in one process; run locust without workers")
    environment.stop_timeout = max(environment.stop_timeout, STOP_SECONDS)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def begin(environment: Any, **_: Any) -> None:
    rpcs = SyncRpcs(str(environment.host or Worker.host), lambda **_: None)
    try:
        if found := rpcs.count_members():
            raise SystemExit(
                f"tally: {found:,} videos are there, and this scenario would report outcomes for them; "
                "use a throw-away Tally: make load SCENARIO=sync"
            )
        Worker.name = f"load_{uuid4().hex[:8]}"
        Worker.outcomes = Outcomes([f"{Worker.name}-{number:04}" for number in range(MEMBERS)])
        rpcs.put_videos(Worker.outcomes.members)
        zone = choose_zone(datetime.now(UTC))
        rpcs.put_quota(
            jobs.Quota(name=Worker.name, units_per_day=jobs.UnitsPerDay(limit=LIMIT_UNITS, zone=zone))
        )
        rpcs.put_job(make_job(Worker.name))
    finally:
        rpcs.close()


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prove(environment: Any, **_: Any) -> None:
    """Work off what is left, and compare. The exit code is 1 unless all of it is right."""
    environment.process_exit_code = 1
    outcomes = Worker.outcomes
    rpcs = SyncRpcs(str(environment.host or Worker.host), lambda **_: None)
    try:
        results = drain(rpcs, outcomes)
        used_units = rpcs.used_units(Worker.name)
    except grpc.RpcError as error:
        print(f"cannot end the runs: {error.code().name}: {error.details()}")
        return
    finally:
        rpcs.close()
    wrong = outcomes.judge(results, used_units, LIMIT_UNITS)
    print_calls(environment.stats)
    for sentence in wrong[:10]:
        print(f"wrong: {sentence}")
    print(f"runs                 {len(results):>10,}")
    print(f"calls made           {outcomes.calls:>10,}")
    print(f"units paid           {used_units:>10,}")
    is_right = bool(results) and not wrong and not environment.runner.exceptions
    print(f"verdict: {'right: every member has one outcome in every run' if is_right else 'WRONG'}")
    if is_right:
        environment.process_exit_code = 0


def drain(rpcs: SyncRpcs, outcomes: Outcomes) -> list[RunResult]:
    """Work until every run has ended, or for as long as that may take; the runs."""
    worker, deadline = f"load-{uuid4().hex[:8]}", time.monotonic() + DRAIN_SECONDS
    for number in count(1):
        lease = rpcs.lease(worker, number)
        if lease is not None:
            try:
                work_off(rpcs, outcomes, lease)
            except grpc.RpcError as error:
                if not is_lost(error):
                    raise
            continue
        results = [read_run(run) for run in rpcs.list_runs(Worker.name)]
        if all(result.is_done for result in results) or time.monotonic() > deadline:
            return results
        gevent.sleep(0.1)
    raise AssertionError("count never ends")


def read_run(run: jobs.Run) -> RunResult:
    found = run.outcomes
    others = found.unchanged + found.gone + found.retry + found.failed
    return RunResult(run.id, run.state == jobs.RUN_STATE_DONE, run.member_count, found.synced, others)
