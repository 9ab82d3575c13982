"""A cluster on this machine: every service in its own processes behind Envoy, on embedded stores.

    async with open_cluster(folder, {"counting": 3}) as cluster:
        async with Client(cluster.address) as client:
            await client.count("video")
        cluster.kill("counting-1")  # it is started again
        await cluster.until_serving()
        await cluster.restart("partitioner-0")  # gracefully, without a failed call

The processes are called `postgres`, `valkey`, `envoy`, and `partitioner-0`, `counting-0`, `query-0` and so on. Each is
a child of this process, which starts again what dies, and none outlives it, however it ends. Their addresses, the DSN
and the URL stay the same for the life of the cluster. In its folder: `postgres/` and `valkey/` as `tally up` has them,
the spools of the shards, and `cluster/` with a log for each process (`cluster/counting-1.log`) and Envoy's
configuration.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from libs.embedded import envoy
from libs.embedded.files import rotate_log
from libs.embedded.folder import check_owner, hold_folder
from libs.rpc import ports
from libs.rpc.security.exposure import is_local
from libs.rpc.security.tls import NO_TLS, ChannelTlsSettings
from libs.runtime.supervisor import Died, Open, Supervisor, Tell
from libs.stores.postgres import connect
from libs.stores.schema import migrate
from libs.telemetry.targets import keep_targets
from services.devcluster.certificates import Certificates
from services.devcluster.children import Stores, open_service, takes_calls
from services.devcluster.topology import ENVOY, POSTGRES, PURPOSES, VALKEY, Place, Topology, make_topology
from services.migrations import list_migrations
from services.registry import stages
from services.settings import Settings, read_settings
from tally.contract.errors import NotReady

_SERVING_SECONDS = 120.0
_POLL_SECONDS = 0.05

Report = Callable[[str], None]
"""called with a message before a long step"""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the cluster, as it is now."""

    name: str
    purpose: str
    address: str
    """host:port, or the DSN or URL of a store"""
    pid: int | None
    """None while it is not there, or not ready"""
    restarts: int
    """how often it was started again after it had died"""
    log: Path


class Cluster:
    """The front proxy at `address`, the stores, and a hand on each process."""

    def __init__(
        self,
        folder: Path,
        topology: Topology,
        supervisor: Supervisor,
        environment: Mapping[str, str],
        environment_of: Mapping[str, Mapping[str, str]],
        certificates: Certificates | None,
    ) -> None:
        self.certificates = certificates
        """None: no TLS, and no roles"""
        self.address = topology.address
        self.topology = topology
        self.dsn = ""
        self.valkey_url = ""
        self._folder = folder
        self._supervisor = supervisor
        self._environment = environment
        self._environment_of = environment_of
        self._envoy: envoy.Envoy | None = None
        supervisor.add(ENVOY, self._open_envoy)
        for place in topology.places:
            supervisor.add(place.name, self._opener(place))

    @property
    def processes(self) -> dict[str, Member]:
        """Every process by its name, in the order in which calls travel."""
        addresses = {place.name: place.address for place in self.topology.places}
        addresses |= {ENVOY: self.address, POSTGRES: self.dsn, VALKEY: self.valkey_url}
        children = self._supervisor.children
        return {
            name: Member(
                name,
                PURPOSES[_service_of(name)],
                addresses[name],
                children[name].pid,
                children[name].restarts,
                self.log_of(name),
            )
            for service in PURPOSES
            for name in children
            if _service_of(name) == service
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
        await self._until(lambda: self._takes_calls(name), f"{name} does not take calls", _SERVING_SECONDS)

    async def restart(self, name: str) -> None:
        """`stop` and `start`: with another process of its service there, no call through the front proxy fails."""
        await self.stop(name)
        await self.start(name)

    async def until_serving(self, timeout_seconds: float = _SERVING_SECONDS) -> None:
        """Wait until every process that was not stopped takes calls, through the front proxy too. Raises NotReady."""

        async def are_serving() -> bool:
            wanted = [name for name, child in self._supervisor.children.items() if child.is_wanted]
            return all(await asyncio.gather(*(self._takes_calls(name) for name in wanted)))

        await self._until(are_serving, "not every process takes calls", timeout_seconds)

    async def _until(
        self, is_so: Callable[[], Awaitable[bool]], problem: str, timeout_seconds: float
    ) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                while not await is_so():  # noqa: ASYNC110 - it happens in other processes
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise NotReady(f"{problem} after {timeout_seconds:g} s; see the logs in {self._folder}") from None

    async def _takes_calls(self, name: str) -> bool:
        """Whether it says so itself, and whether Envoy, if it runs, has noticed."""
        if not self._supervisor.children[name].ready.is_set():
            return False
        place = next((place for place in self.topology.places if place.name == name), None)
        if place is None:
            return True
        if not await takes_calls(place, self._tls):
            return False
        if not place.is_public:
            return True
        if self._envoy is None:
            return not self._supervisor.children[ENVOY].is_wanted
        try:
            return place.address in await self._envoy.healthy_addresses()
        except OSError:
            return False

    @property
    def _tls(self) -> ChannelTlsSettings:
        return NO_TLS if self.certificates is None else self.certificates.of_services

    def _opener(self, place: Place) -> Open:
        def open_it(died: Died) -> AbstractAsyncContextManager[int]:
            variables = {
                **self.topology.environment_of(place, self._folder, self.dsn, self.valkey_url),
                **({} if self.certificates is None else self.certificates.environment()),
                **self._environment,
                **self._environment_of.get(place.name, {}),
            }
            log = self.log_of(place.name)
            return open_service(place, log.parent, log, variables, self._tls, died)

        return open_it

    @asynccontextmanager
    async def _open_envoy(self, died: Died) -> AsyncIterator[int]:
        folder = self._folder / "cluster"
        tls = None if self.certificates is None else self.certificates.of_proxy
        async with envoy.open_envoy(
            folder, self.address, self.topology.pools, tls=tls, on_death=died
        ) as opened:
            self._envoy = opened
            try:
                yield opened.pid
            finally:
                self._envoy = None


@asynccontextmanager
async def open_cluster(
    folder: Path,
    replicas: Mapping[str, int] | None = None,
    *,
    address: str | None = None,
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
    environment_of: Mapping[str, Mapping[str, str]] | None = None,
    certificates: Certificates | None = None,
    report: Report = lambda _: None,
    tell: Tell = lambda _, __: None,
) -> AsyncIterator[Cluster]:
    """Run a cluster with its data in `folder`; yields it once all of it is serving. To be used in the main thread.

    `replicas` says how many processes of which service, where it is not as the table of services says. `address` is
    that of the front proxy; without one it takes a free port. `settings` are of the stores: where they
    name a Postgres or a Valkey, that is used, and is no process of the cluster. The services get this process's
    environment and what makes them a part of the cluster, then `environment`, then what `environment_of` has
    for their name. With `certificates` there is TLS everywhere, and callers must be known. `tell` hears of each death
    and each restart.

    Leaving it stops all in order: Envoy, which first lets calls under way end, services before those that they call,
    and the stores.

    Raises NotReady when something cannot start, with the end of its log, and when others can reach `address` without
    TLS.
    """
    settings = settings or read_settings()
    topology = make_topology(replicas or {}, address)
    if not (certificates or settings.server.open or is_local(topology.address)):
        raise NotReady(
            f"{topology.address} can be reached from other machines, and this cluster would take calls there without "
            "TLS and roles. Start it with --tls, or say with TALLY_SERVER__OPEN=true that everyone who reaches it may "
            "do everything"
        )
    envoy.find_binary()
    ports.check_free(topology.address)
    check_owner(folder)
    async with AsyncExitStack() as stack:
        own = stack.enter_context(hold_folder(folder / "cluster"))
        supervisor = Supervisor(tell)
        cluster = Cluster(
            own.parent, topology, supervisor, environment or {}, environment_of or {}, certificates
        )
        services = [ENVOY, *(place.name for place in topology.places)]
        for name in services:
            rotate_log(cluster.log_of(name))
        stores = Stores(stack, own.parent, settings.embedded, len(topology.places))
        stack.push_async_callback(_stop, supervisor, report)
        cluster.dsn, cluster.valkey_url = await _start_stores(supervisor, stores, settings, report)
        report("Starting the services and Envoy")
        await _start_together(supervisor, services)
        await cluster.until_serving()
        stack.enter_context(keep_targets(own.parent, topology.targets))
        yield cluster


async def _start_stores(
    supervisor: Supervisor, stores: Stores, settings: Settings, report: Report
) -> tuple[str, str]:
    """The DSN, of a database with the schema, and the URL."""
    embedded = []
    if settings.postgres.dsn is None:
        supervisor.add(POSTGRES, stores.open_postgres)
        embedded.append(POSTGRES)
    if settings.valkey.url is None:
        supervisor.add(VALKEY, stores.open_valkey)
        embedded.append(VALKEY)
    if embedded:
        report(f"Starting {' and '.join(name.capitalize() for name in embedded)}")
    await _start_together(supervisor, embedded)
    dsn, url = settings.postgres.dsn or stores.dsn, settings.valkey.url or stores.valkey_url
    try:
        connection = await connect(dsn, settings.postgres, "tally cluster")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotReady(
            f"cannot reach Postgres: {error}. Check TALLY_POSTGRES__DSN and that it is up"
        ) from error
    try:
        await migrate(connection, settings.partition_count, list_migrations())
    finally:
        await connection.close(timeout=settings.postgres.connect_timeout_seconds)
    return dsn, url


async def _start_together(supervisor: Supervisor, names: Iterable[str]) -> None:
    """Start all of them at the same time. Raises NotReady for the first that cannot, and waits for the others."""
    ends = await asyncio.gather(*(supervisor.start(name) for name in names), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _stop(supervisor: Supervisor, report: Report) -> None:
    """In the direction of calls, so that a process that still works can reach those that it calls."""
    for stage in ([ENVOY], *stages(), [POSTGRES, VALKEY]):
        names = [name for name in supervisor.children if _service_of(name) in stage]
        if names:
            report(f"Stopping {', '.join(names)}")
        await supervisor.stop_together(names)


def _service_of(name: str) -> str:
    return name.partition("-")[0]
