"""A cluster on this machine: every service in processes of its own behind Envoy, on embedded stores.

    async with open_cluster(folder, Shape(shards=3)) as cluster:
        async with Client(cluster.address) as client:
            await client.count("video")
        cluster.kill("counting-1")  # it is started again
        await cluster.until_serving()
        await cluster.restart("partitioner-0")  # in order, without a failed call

The processes are called `postgres`, `valkey`, `envoy`, and `partitioner-0`, `counting-0`, `query-0` and so on. Each is
a child of this process, which starts again what dies, and none outlives it, however it ends. Their addresses, the DSN
and the URL stay the same for the life of the cluster. In its folder: `postgres/` and `valkey/` as `tally up` has them,
and `cluster/` with a log for each process (`cluster/counting-1.log`) and Envoy's configuration.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from libs.domain.errors import NotReady
from libs.embedded import envoy, postgres, valkey
from libs.embedded.folder import hold_folder, open_socket_folder, rotate_log
from libs.embedded.process import Process
from libs.rpc import ports
from libs.rpc.health import is_serving
from libs.runtime.supervisor import Died, Supervisor, Tell
from libs.stores.postgres import connect
from libs.stores.schema import migrate
from services.settings import Settings
from services.topology import ENVOY, POSTGRES, VALKEY, Place, Shape, Topology, make_topology

# A connection pool or two for each process, and some for those who look on.
_CONNECTIONS_OF_A_PROCESS = 24
_START_SECONDS = 120.0
# The drain delay, the grace of the server and the last flush, each at its longest.
_STOP_SECONDS = 40.0
_KILL_SECONDS = 5.0
_WATCH_SECONDS = 0.1
_POLL_SECONDS = 0.05
_ASK_SECONDS = 2.0

Report = Callable[[str], None]
"""is told what takes time"""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the cluster, as it is now."""

    name: str
    address: str
    """host:port; of a store its folder, or where it is if it is not of this cluster"""
    pid: int | None
    """None while it is not there, or not ready"""
    restarts: int
    """how often it was started again after it had died"""
    log: Path


class Cluster:
    """The front door at `address`, the stores, and a hand on each process."""

    def __init__(
        self,
        folder: Path,
        address: str,
        topology: Topology,
        supervisor: Supervisor,
        environment: Mapping[str, str],
        environment_of: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.address = address
        self.topology = topology
        self.dsn = ""
        self.valkey_url = ""
        self._folder = folder
        self._supervisor = supervisor
        self._environment = environment
        self._environment_of = environment_of
        self._envoy: envoy.Envoy | None = None
        for place in topology.places:
            supervisor.add(place.name, lambda died, place=place: self._open_service(place, died))  # type: ignore[misc]  # mypy does not see through the default
        supervisor.add(ENVOY, self._open_envoy)

    @property
    def processes(self) -> dict[str, Member]:
        """Every process by its name, the front door first and the stores last."""
        addresses = {ENVOY: self.address}
        addresses |= {place.name: place.address for place in self.topology.places}
        addresses |= {POSTGRES: self.dsn, VALKEY: self.valkey_url}
        children = self._supervisor.children
        return {
            name: Member(name, address, children[name].pid, children[name].restarts, self.log_of(name))
            for name, address in addresses.items()
            if name in children
        }

    def log_of(self, name: str) -> Path:
        """Where the output of a process goes."""
        if name in (POSTGRES, VALKEY):
            return self._folder / name / f"{name}.log"
        return self._folder / "cluster" / f"{name}.log"

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a process a signal: SIGKILL, or SIGSTOP and SIGCONT. Raises NotReady when there is no process now.

        What is killed is started again; `until_serving` waits for it.
        """
        self._supervisor.kill(name, number)

    async def stop(self, name: str) -> None:
        """Stop a process in order (SIGTERM, and its drain); it stays stopped."""
        await self._supervisor.stop(name)

    async def start(self, name: str) -> None:
        """Start a process that was stopped; returns when it takes calls. Raises NotReady when it cannot start."""
        await self._supervisor.start(name)
        await self._until(lambda: self._takes_calls(name), f"{name} does not take calls")

    async def restart(self, name: str) -> None:
        """`stop` and `start`: with another process of its service there, no call through the front door fails."""
        await self.stop(name)
        await self.start(name)

    async def until_serving(self, timeout_seconds: float = _START_SECONDS) -> None:
        """Wait until every process that was not stopped takes calls, through the front door too. Raises NotReady."""

        async def are_serving() -> bool:
            wanted = [name for name, child in self._supervisor.children.items() if child.is_wanted]
            return all(await asyncio.gather(*(self._takes_calls(name) for name in wanted)))

        await self._until(are_serving, "not every process takes calls", timeout_seconds)

    async def _until(
        self, is_so: Callable[[], Awaitable[bool]], problem: str, timeout_seconds: float = _START_SECONDS
    ) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                while not await is_so():  # noqa: ASYNC110 - it happens in other processes
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise NotReady(f"{problem} after {timeout_seconds:g} s; see the logs in {self._folder}") from None

    async def _takes_calls(self, name: str) -> bool:
        """Whether it is alive and says so itself, and whether Envoy, if it runs, knows."""
        child = self._supervisor.children[name]
        if not child.ready.is_set() or child.pid is None or not _is_alive(child.pid):
            return False
        place = next((place for place in self.topology.places if place.name == name), None)
        if place is None:
            return True
        if not await _is_serving(place):
            return False
        if self._envoy is None:
            return not self._supervisor.children[ENVOY].is_wanted
        try:
            return place.address in await self._envoy.healthy_addresses()
        except OSError:
            return False

    @asynccontextmanager
    async def _open_service(self, place: Place, died: Died) -> AsyncIterator[int]:
        environment = {
            **os.environ,
            **self.topology.environment_of(place, self.dsn, self.valkey_url),
            **self._environment,
            **self._environment_of.get(place.name, {}),
        }
        process = Process.start(
            place.name,
            [sys.executable, "-m", "services", place.service],
            folder=Path.cwd(),
            log=self.log_of(place.name),
            death_signal=signal.SIGKILL,  # what a shard had not flushed is in the journal
            environment=environment,
        )
        try:
            await process.wait_until(lambda: _is_serving(place), _START_SECONDS, every_seconds=_POLL_SECONDS)
            async with process.watch(died, every_seconds=_WATCH_SECONDS):
                yield process.pid
        finally:
            await process.stop([(signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)])

    @asynccontextmanager
    async def _open_envoy(self, died: Died) -> AsyncIterator[int]:
        folder = self._folder / "cluster"
        async with envoy.open_envoy(folder, self.address, self.topology.pools, on_death=died) as opened:
            self._envoy = opened
            try:
                yield opened.pid
            finally:
                self._envoy = None


@asynccontextmanager
async def open_cluster(
    folder: Path,
    shape: Shape | None = None,
    *,
    address: str | None = None,
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
    environment_of: Mapping[str, Mapping[str, str]] | None = None,
    report: Report = lambda _: None,
    tell: Tell = lambda _, __: None,
) -> AsyncIterator[Cluster]:
    """Run a cluster with its data in `folder`; yields it once all of it is serving. To be used in the main thread.

    `address` is that of the front door; without one it takes a free port. `settings` are of the stores: where they
    name a Postgres or a Valkey, that is used, and is no process of the cluster. The services get this process's
    environment and what makes them a part of the cluster, then `environment`, then what `environment_of` has
    for their name. `tell` hears of each death and each restart.

    Raises NotReady when something cannot start, with the end of its log.
    """
    settings = settings or Settings()
    shape = shape or Shape()
    envoy.find_binary()
    address = address or f"127.0.0.1:{ports.find_free(1)[0]}"
    ports.check_free(address)
    async with AsyncExitStack() as stack:
        own = stack.enter_context(hold_folder(folder / "cluster"))
        topology = make_topology(shape)
        for name in (ENVOY, *(place.name for place in topology.places)):
            rotate_log(own / f"{name}.log")
        supervisor = Supervisor(tell)
        cluster = Cluster(own.parent, address, topology, supervisor, environment or {}, environment_of or {})
        stack.push_async_callback(supervisor.stop_all, _stages(topology))
        await _open_stores(stack, cluster, supervisor, settings, len(topology.places), report)
        report("Starting the services and Envoy")
        await _start_together(supervisor, [ENVOY, *(place.name for place in topology.places)])
        await cluster.until_serving()
        yield cluster


def _stages(topology: Topology) -> list[list[str]]:
    """Who is stopped after whom: first those who are called from outside, last those whom all others call."""
    services = (topology.of(name) for name in ("partitioner", "query", "counting"))
    return [[ENVOY], *([place.name for place in places] for places in services), [POSTGRES, VALKEY]]


async def _start_together(supervisor: Supervisor, names: list[str]) -> None:
    """Start all of them at the same time. Raises NotReady for the first that cannot, and waits for the others."""
    ends = await asyncio.gather(*(supervisor.start(name) for name in names), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _open_stores(
    stack: AsyncExitStack,
    cluster: Cluster,
    supervisor: Supervisor,
    settings: Settings,
    processes: int,
    report: Report,
) -> None:
    """Start the stores that are not given, migrate, and tell the cluster where they are."""
    folder = cluster.log_of(POSTGRES).parent.parent
    started = []
    if settings.postgres.dsn is None:
        supervisor.add(POSTGRES, _open_postgres(stack, cluster, folder / POSTGRES, settings, processes))
        started.append(POSTGRES)
    if settings.valkey.url is None:
        supervisor.add(VALKEY, _open_valkey(stack, cluster, folder / VALKEY, settings))
        started.append(VALKEY)
    if started:
        report(f"Starting {' and '.join(name.capitalize() for name in started)} in {folder}")
    await _start_together(supervisor, started)
    cluster.dsn = settings.postgres.dsn or cluster.dsn
    cluster.valkey_url = settings.valkey.url or cluster.valkey_url
    connection = await connect(cluster.dsn, settings.postgres, "tally cluster")
    try:
        await migrate(connection, settings.partition_count)
    finally:
        await connection.close()


def _open_postgres(
    stack: AsyncExitStack, cluster: Cluster, folder: Path, settings: Settings, processes: int
) -> Callable[[Died], AbstractAsyncContextManager[int]]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sockets = stack.enter_context(open_socket_folder(folder, postgres.SOCKETS))
    least = processes * _CONNECTIONS_OF_A_PROCESS
    server = settings.embedded.postgres.model_copy(
        update={"max_connections": max(least, settings.embedded.postgres.max_connections)}
    )

    @asynccontextmanager
    async def open_it(died: Died) -> AsyncIterator[int]:
        async with postgres.open_postgres(folder, settings=server, on_death=died, sockets=sockets) as dsn:
            cluster.dsn = dsn
            yield postgres.read_pid(folder / "pgdata") or 0

    return open_it


def _open_valkey(
    stack: AsyncExitStack, cluster: Cluster, folder: Path, settings: Settings
) -> Callable[[Died], AbstractAsyncContextManager[int]]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sockets = stack.enter_context(open_socket_folder(folder, valkey.SOCKETS))

    @asynccontextmanager
    async def open_it(died: Died) -> AsyncIterator[int]:
        async with valkey.open_valkey(
            folder, settings=settings.embedded.valkey, on_death=died, sockets=sockets
        ) as url:
            cluster.valkey_url = url
            yield int((folder / "valkey.pid").read_text())

    return open_it


async def _is_serving(place: Place) -> bool:
    host, _, port = place.address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))  # cheaper than to let gRPC find out
        writer.close()
    except OSError:
        return False
    return await is_serving(place.address, place.health_service, _ASK_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
