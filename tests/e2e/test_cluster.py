"""A cluster on one machine, as a library and as a command: it serves, survives what dies in it, and ends whole."""

import asyncio
import itertools
import json
import re
import signal
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import pytest_asyncio

from libs.rpc import ports
from services.devcluster.cluster import Cluster, open_cluster
from services.registry import SERVICES, stages
from tally.counting.v1 import counting_pb2, dead_letters_pb2
from tally.ingest.v1.ingest_pb2 import CountEventRequest
from tally.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from tests.support.entries import new_id
from tests.support.eventually import eventually
from tests.support.processes import FAST
from tests.support.proof import assert_exact
from tests.support.reach import certificates, cluster_options, open_channel
from tests.support.terminal import finish, run, start

SERVICE_NAMES = [service.name for service in SERVICES]
ONE_OF_EACH = [f"--replicas={service.name}=1" for service in SERVICES]

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

PAUSE_SECONDS = 0.02
"""between two calls, so that the machine has time for what restarts"""


STAGES = [
    "envoy",
    *(", ".join(f"{name}-0" for name in reversed(SERVICE_NAMES) if name in stage) for stage in stages()),
    "postgres, valkey",
]
"""the order of a stop"""


class Caller:
    """Counts, one call after the other; a call that fails is noted, and sent again under its id until it succeeds."""

    def __init__(self, address: str) -> None:
        # The tests look at each failure, so that gRPC must not mend any.
        options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]
        self.channel = open_channel(address, options=options)
        self.acknowledged: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []
        self.is_done = False
        self._stub: Any = IngestServiceStub(self.channel)

    async def run(self) -> None:
        for number in itertools.count():
            await self._count(f"video {number % 7}")
            if self.is_done:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _count(self, video: str) -> None:
        request = CountEventRequest(video_id=video, event_type="view", request_id=str(new_id()))
        while True:
            try:
                await self._stub.CountEvent(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
                await asyncio.sleep(0.1)
            else:
                self.acknowledged[(video, "view")] += 1
                return


@asynccontextmanager
async def calling(cluster: Cluster) -> AsyncIterator[Caller]:
    """Calls all the time within this context, and some after whatever happened in it."""
    caller = Caller(cluster.address)
    async with caller.channel, asyncio.timeout(180):
        calls = asyncio.create_task(caller.run())
        try:
            yield caller
            before = caller.acknowledged.total()
            await until(lambda: caller.acknowledged.total() > before + 5 or calls.done())
        finally:
            caller.is_done = True
            await calls


async def until(is_so: Callable[[], bool]) -> None:
    async def ask() -> bool:
        return is_so()

    await eventually(ask, 60)


async def test_the_command_serves_leaves_nothing_behind_when_it_is_killed_and_can_be_stopped_at_any_time(
    tmp_path: Path,
) -> None:
    address = f"127.0.0.1:{ports.find_free(1)[0]}"
    command: tuple[str | Path, ...] = (
        "cluster",
        *ONE_OF_EACH,
        "--data-dir",
        tmp_path,
        *cluster_options(tmp_path),
    )

    cluster = await start(*command, address=address, **FAST)
    table = await read_until(cluster, "Ready.")
    row = re.compile(r"^\s*(?:envoy|postgres|valkey|\w+-0)\s.*\s(\d+)\s*$", re.MULTILINE)
    pids = [int(pid) for pid in row.findall(table)]
    assert len(pids) == len(ONE_OF_EACH) + len(("envoy", "postgres", "valkey"))
    assert f"Ready. The front proxy is at {address}" in table
    assert (await run("count", "video", address=address)).out == "counted 1 view of video\n"
    status = await run("status", "--json", address=address)
    assert (status.exit_code, json.loads(status.out)["problems"]) == (0, [])
    traced = await run("trace", "video", "--data-dir", tmp_path, address=address)
    assert traced.exit_code == 0, traced.err
    line = r"(ProcessEvents|append|journal commit|flush)\b.*? (partitioner|counting|tally trace)\b"
    spans = set(re.findall(line, traced.out))
    assert spans >= {("ProcessEvents", "partitioner"), ("journal commit", "counting"), ("flush", "counting")}
    at_shard = re.search(r"dead-letters list --address (\S+)", await read_until(cluster, "What dies"))
    assert at_shard is not None
    assert (await run("dead-letters", "list", address=at_shard[1])).out == "no dead letters\n"
    psutil.Process(pids[2]).suspend()  # who is frozen goes too
    cluster.kill()
    await cluster.communicate()
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))

    cluster = await start(*command, address=address, **FAST)
    await read_until(cluster, "Starting the services and Envoy")
    children = psutil.Process(cluster.pid).children()
    cluster.send_signal(signal.SIGINT)
    ended = await finish(cluster)
    assert (ended.exit_code, ended.err) == (0, "")
    assert re.findall("Stopping (.*) …", ended.out) == STAGES
    assert not any(child.is_running() for child in children)


async def test_a_removed_socket_is_made_again_and_removed_data_end_the_whole_cluster(tmp_path: Path) -> None:
    address, folder = f"127.0.0.1:{ports.find_free(1)[0]}", tmp_path / "data"
    command: tuple[str | Path, ...] = (
        "cluster",
        *ONE_OF_EACH,
        "--data-dir",
        folder,
        *cluster_options(folder),
    )
    cluster = await start(*command, address=address, **FAST)
    try:
        await read_until(cluster, "Ready.")
        for name, socket in {
            "Postgres": "postgres/sockets-*/.s.PGSQL.5432",
            "envoy": "cluster/sockets-*/envoy.sock",
        }.items():
            (path,) = folder.glob(socket)
            path.unlink()
            told = await read_until(cluster, f"{name.lower()} is back, pid ")
            assert (
                f"{name} cannot be used any more: the socket {path} was removed while it was in use" in told
            )
        await eventually(lambda: counts(address), 30.0)
        children = psutil.Process(cluster.pid).children(recursive=True)
        removing = await asyncio.create_subprocess_exec("rm", "-rf", folder)
        ended = await asyncio.wait_for(finish(cluster), 5)
        await removing.wait()
    finally:
        if cluster.returncode is None:
            cluster.kill()
            await cluster.communicate()
    assert ended.exit_code == 1
    assert "was removed or replaced while it was in use" in ended.err
    await until(lambda: not any(child.is_running() for child in children))


async def counts(address: str) -> bool:
    return (await run("count", "video", address=address)).exit_code == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    async with open_cluster(
        folder,
        {"partitioner": 2, "counting": 2, "query": 1},
        environment=FAST,
        certificates=certificates(),
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def acknowledged() -> Counter[tuple[str, str]]:
    """What all tests of the cluster have counted."""
    return Counter()


async def test_a_rolling_restart_under_steady_calls_fails_none_of_them(
    cluster: Cluster, acknowledged: Counter[tuple[str, str]]
) -> None:
    async with calling(cluster) as caller:
        await asyncio.gather(cluster.restart("partitioner-0"), cluster.restart("counting-0"))
        await cluster.restart("partitioner-1")
    acknowledged += caller.acknowledged
    assert caller.failures == []
    assert {each.restarts for each in cluster.processes.values()} == {0}  # nothing of it had died


async def test_the_front_proxy_leads_to_no_call_for_operators_nor_between_processes(cluster: Cluster) -> None:
    internal = [
        f"/{service.full_name}/{method.name}"
        for file in (counting_pb2, dead_letters_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert "/tally.counting.v1.DeadLetterService/DropDeadLetter" in internal
    async with open_channel(cluster.address) as channel:
        for path in internal:
            call: Any = channel.unary_unary(path)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"", timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED, path
    # The command finds a shard behind the front proxy by itself, where the shards can be reached.
    assert (await run("dead-letters", "list", address=cluster.address)).out == "no dead letters\n"


@pytest.mark.exact
async def test_everything_may_be_killed_and_is_there_again_and_every_count_is_exact(
    cluster: Cluster, acknowledged: Counter[tuple[str, str]]
) -> None:
    async with calling(cluster) as caller:
        for names in (
            ("partitioner-0", "counting-0"),
            ("query-0", "valkey", "envoy"),
            ("postgres",),
        ):
            before = {name: cluster.processes[name].pid for name in names}
            for name in names:
                cluster.kill(name)
            await cluster.until_serving()
            for name in names:
                member = cluster.processes[name]
                assert member.restarts == 1, member
                assert member.pid not in (before[name], None)
    acknowledged += caller.acknowledged
    await assert_exact(cluster.dsn, acknowledged)


async def read_until(process: Process, wanted: str) -> str:
    """What the process prints, up to the line that holds what is wanted."""
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(150):
        while wanted not in said:
            line = (await process.stdout.readline()).decode()
            if not line:
                ended = await finish(process)
                pytest.fail(f"it ended: {said}{ended.err}")
            said += line
    return said
