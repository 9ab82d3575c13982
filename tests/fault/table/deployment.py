"""What is broken: a cluster of processes with the settings that ship, on servers of its own.

One shard reaches Postgres through a proxy, which sees its connections and cuts them. Postgres may be a pair, of a
primary and a synchronous standby; then there is no proxy.
"""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio as valkey

from libs.embedded.postgres import EmbeddedPostgresSettings
from libs.stores.postgres import PostgresSettings
from loadtests.simulators.network import Network, make_network, open_network
from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import Simulator, open_simulator
from loadtests.youtube.videos import Catalog
from services.devcluster.cluster import Cluster, open_cluster
from services.settings import ValkeySettings, read_settings
from tests.fault.table.load import Doors
from tests.fault.table.pair import Pair, open_pair
from tests.fault.table.sync import MEMBERS, make_video
from tests.support.proxy import Proxy, open_proxy
from tests.support.reach import certificates
from tests.support.servers import Breakable, breakable_postgres, breakable_valkey

ENVOY = "envoy"
PARTITIONERS = ("partitioner-0", "partitioner-1")
SHARDS = ("counting-0", "counting-1", "counting-2")
QUERIES = ("query-0", "query-1")
CATALOGS = ("catalog-0", "catalog-1")
SCHEDULERS = ("scheduler-0", "scheduler-1")
WORKERS = ("worker-0", "worker-1")
BACKFILL = "backfill-0"
PROXIED = SHARDS[0]

_REPLICAS = {
    "partitioner": len(PARTITIONERS),
    "counting": len(SHARDS),
    "query": len(QUERIES),
    "catalog": len(CATALOGS),
    "scheduler": len(SCHEDULERS),
    "worker": len(WORKERS),
}
_API_SECONDS, _HOST_SECONDS = 0.3, 0.1
"""how long a call to another company's api, and to a host of repositories, takes: runs last long enough to be broken"""
_POSTGRES = EmbeddedPostgresSettings(shared_buffers_mb=128, max_connections=250)


@dataclass(slots=True)
class Deployment:
    """The cluster, the servers under it, and the ways to break them."""

    folder: Path
    postgres: Breakable
    """of a pair the primary"""
    valkey: Breakable
    pair: Pair | None
    cluster: Cluster
    doors: Doors
    proxy: Proxy | None
    api: Simulator
    """of the videos that workers keep in sync"""
    network: Network
    """of the repositories that workers fetch"""
    environment_of: dict[str, dict[str, str]] = field(default_factory=dict)
    """variables of a process by its name, from its next start on"""

    @property
    def dsn(self) -> str:
        return self.pair.dsn if self.pair else self.postgres.url

    @property
    def objects(self) -> Path:
        """The folder of the object store that all services share."""
        return self.folder / "objects"

    def kill(self, name: str) -> None:
        """SIGKILL to a process, which is started again."""
        self.cluster.kill(name)

    async def wipe_valkey(self) -> None:
        """Remove every key."""
        async with valkey.Redis.from_url(self.valkey.url) as client:
            await client.flushall()

    def freeze(self, name: str) -> None:
        self.cluster.kill(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.cluster.kill(name, signal.SIGCONT)

    async def kill_into(self, name: str, variables: Mapping[str, str]) -> None:
        """Kill a process; its next lives have these variables, in the place of those of before."""
        self.environment_of[name] = dict(variables)
        self.kill(name)
        await self.cluster.until_serving()


@asynccontextmanager
async def open_deployment(
    folder: Path, *, is_pair: bool = False, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Deployment]:
    """Start everything; `environment` is for all services. The logs are in `folder`/cluster."""
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(open_pair(_POSTGRES)) if is_pair else None
        postgres = pair.primary if pair else await stack.enter_async_context(breakable_postgres(_POSTGRES))
        valkey = await stack.enter_async_context(breakable_valkey())
        api = Simulator(Catalog(map(make_video, MEMBERS)), Meter(), delay_seconds=_API_SECONDS)
        await stack.enter_async_context(open_simulator(api))
        network = make_network(0, delay_seconds=_HOST_SECONDS)
        await stack.enter_async_context(open_network(network))
        proxy = None if pair else await stack.enter_async_context(open_proxy(postgres.url))
        environment_of = {PROXIED: {"TALLY_POSTGRES__DSN": proxy.dsn} if proxy else {}}
        settings = read_settings(
            postgres=PostgresSettings(dsn=pair.dsn if pair else postgres.url),
            valkey=ValkeySettings(url=valkey.url),
        )
        cluster = await stack.enter_async_context(
            open_cluster(
                folder,
                _REPLICAS,
                settings=settings,
                environment={**_work_on(api, network), **(environment or {})},
                environment_of=environment_of,
                certificates=certificates(),
            )
        )
        doors = Doors(
            door=cluster.address,
            partitioners=_addresses(cluster, "partitioner"),
            shards=_addresses(cluster, "counting"),
            partition_count=settings.partition_count,
        )
        yield Deployment(folder, postgres, valkey, pair, cluster, doors, proxy, api, network, environment_of)


def _work_on(api: Simulator, network: Network) -> dict[str, str]:
    """Variables with which workers call the simulators, one batch at a time."""
    return {
        "TALLY_WORKER__YOUTUBE__API_KEY": api.key,
        "TALLY_WORKER__YOUTUBE__ENDPOINT": api.url,
        "TALLY_WORKER__SLOTS_AT_ONCE": "1",
        "TALLY_WORKER__FETCH__EGRESS__SIMULATED": "true",
        "TALLY_BACKFILL__EGRESS__SIMULATED": "true",
        "TALLY_BACKFILL__DIRECTORY__URL": network.directory_url,
    }


def _addresses(cluster: Cluster, service: str) -> tuple[str, ...]:
    return tuple(place.address for place in cluster.topology.of(service))
