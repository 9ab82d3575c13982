"""Users who count and read, for locust, and at the end the proof that counted = acknowledged.

    locust -f loadtests/locustfile.py --host 127.0.0.1:50051

The videos of a run have ids of their own, so any running Tally will do; what is counted there stays there.
"""

import random
from typing import Any, ClassVar
from uuid import uuid4

import grpc
import grpc.experimental.gevent
from locust import User, constant_throughput, events, task
from locust.runners import LocalRunner
from locust.user.task import LOCUST_STATE_STOPPING

from loadtests.ledger import Key, Ledger
from loadtests.report import print_report
from loadtests.rpcs import VIEW, Rpcs, WriteRequest
from tally.client.request_id import RequestIds
from tally.ingest.v1 import ingest_pb2

# gRPC asks for this before its first object is made; locust patched the standard library when it was imported.
grpc.experimental.gevent.init_gevent()

VIDEOS = 50
TYPES = ("like", "share", "comment")
BATCH_EVENTS = 100
TASKS_PER_SECOND = 20  # of one user: the pace bounds the number of calls
STOP_SECONDS = 10.0


class Viewer(User):
    """Counts and reads at an even pace; a few videos get most of it, as in life (Zipf, exponent 1)."""

    wait_time = constant_throughput(TASKS_PER_SECOND)
    ledger: ClassVar[Ledger]
    videos: ClassVar[list[str]]

    def on_start(self) -> None:
        self._rpcs = Rpcs(str(self.host), self.environment.events.request.fire)
        self._ids = RequestIds()
        self._last: tuple[WriteRequest, list[Key]] | None = None
        self.count_a_view()  # the shortest run has something to show

    def on_stop(self) -> None:
        self._rpcs.close()

    def stop(self, force: bool = False) -> bool:
        """End after the task or the wait that is under way.

        Locust kills a user who waits, and one whose wait is over just then dies in the middle of a call.
        """
        if force:
            return bool(super().stop(force))
        self._state = LOCUST_STATE_STOPPING
        return False

    @task(8)
    def count_a_view(self) -> None:
        (video,) = self._choose(1)
        request = ingest_pb2.CountViewEventRequest(video_id=video, request_id=self._ids.make())
        self._write(request, [(video, VIEW)])

    @task(4)
    def count_an_event(self) -> None:
        (video,), kind = self._choose(1), random.choice(TYPES)
        request = ingest_pb2.CountEventRequest(video_id=video, event_type=kind, request_id=self._ids.make())
        self._write(request, [(video, kind)])

    @task(2)
    def count_many(self) -> None:
        keys = [(video, random.choice((VIEW, *TYPES))) for video in self._choose(BATCH_EVENTS)]
        request = ingest_pb2.ProcessEventsRequest(
            request_id=self._ids.make(),
            events=[ingest_pb2.Event(video_id=video, event_type=kind) for video, kind in keys],
        )
        self._write(request, keys)

    @task(1)
    def repeat_the_last(self) -> None:
        """Do what a client does whose acknowledgement was lost."""
        if self._last is None:
            return
        request, keys = self._last
        try:
            receipt = self._rpcs.write(request)
        except grpc.RpcError:
            return
        self.ledger.expect(
            receipt.duplicate_count == len(keys),
            f"{request.request_id} was sent again, and {receipt.accepted_count:,} of its events counted again",
        )

    @task(4)
    def read(self) -> None:
        self._read(strong=False)

    @task(1)
    def read_strongly(self) -> None:
        self._read(strong=True)

    def _choose(self, count: int) -> list[str]:
        return random.choices(self.videos, [1 / rank for rank in range(1, VIDEOS + 1)], k=count)

    def _write(self, request: WriteRequest, keys: list[Key]) -> None:
        self.ledger.send(keys)
        try:
            receipt = self._rpcs.write(request)
        except grpc.RpcError:
            return  # the outcome is unknown, and locust was told
        self.ledger.acknowledge(keys)
        told = receipt.accepted_count + receipt.duplicate_count
        self.ledger.expect(
            told == len(keys), f"{request.request_id} has {len(keys):,} events, and its receipt says {told:,}"
        )
        self._last = request, keys

    def _read(self, *, strong: bool) -> None:
        (video,), kind = self._choose(1), random.choice((VIEW, *TYPES))
        least = self.ledger.acknowledged((video, kind)) if strong else 0
        try:
            count = self._rpcs.read(video, kind, strong=strong)
        except grpc.RpcError:
            return
        most = self.ledger.sent((video, kind))
        self.ledger.expect(
            least <= count <= most,
            f"{kind} of {video}: read {count:,} when {least:,} to {most:,} were possible",
        )


USER = Viewer


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prepare(environment: Any, runner: Any, **_: Any) -> None:
    """Let calls under way end before the users do, so that their outcome is known."""
    if not isinstance(runner, LocalRunner):
        raise SystemExit("tally: the ledger is kept in one process; run locust without workers")
    environment.stop_timeout = max(environment.stop_timeout, STOP_SECONDS)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def begin(**_: Any) -> None:
    Viewer.ledger = Ledger()
    run = uuid4().hex[:8]
    Viewer.videos = [f"load-{run}-{number:02}" for number in range(VIDEOS)]


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # locust leaves it untyped
def prove(environment: Any, **_: Any) -> None:
    """Read everything back. The exit code is 1 unless the verdict is right, or when it cannot be had."""
    environment.process_exit_code = 1
    rpcs = Rpcs(str(environment.host or Viewer.host), lambda **_: None)
    try:
        counted = {key: rpcs.read(*key, strong=True) for key in Viewer.ledger.keys}
    except grpc.RpcError as error:
        print(f"cannot read the counts back: {error.code().name}: {error.details()}")
        return
    finally:
        rpcs.close()
    verdict = Viewer.ledger.judge(counted)
    print_report(environment.stats, verdict)
    if not verdict.wrong and not environment.runner.exceptions:
        environment.process_exit_code = 0
