"""The table of the services. What others need to know about a service is in its row, or follows from it.

From the rows follow the settings, the order in which services start and stop, the front proxy's routes and health
checks, the processes of a cluster and how they find each other, the commands of `tally`, what `tally up` and `tally
status` print, the import rules, and the manifests' list of services, network policies and checks. The table is cheap to
import: a service's code is loaded when it is opened, and its commands when one of them runs.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import ServiceDescriptor

from tally.contract.errors import NotReady

if TYPE_CHECKING:
    from pydantic import BaseModel

    from libs.runtime.context import Context
    from libs.runtime.service import Opened


class Need(Enum):
    """A resource that a service needs."""

    POSTGRES = "Postgres"
    VALKEY = "Valkey"
    OBJECT_STORE = "object store"
    DISK = "disk"
    """a volume of its own, which the next life of the same instance finds again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A row: one box of the README's diagram.

    Its code is in `services/<name>/`: `app.py` has `open_<name>(context, settings)`, and `settings.py` the model
    `<Name>Settings`.
    """

    name: str
    """of its folder, its process, its settings, its Postgres schema and its manifests"""
    purpose: str
    """what it does, as the rest of a sentence"""
    serves: Sequence[ServiceDescriptor] = ()
    """the gRPC services; the health of the first is that of the process, and without any the server's"""
    routed: Sequence[ServiceDescriptor] = ()
    """those of them that the front proxy makes public"""
    direct: bool = False
    """whether clients in direct mode call it, besides the services that do"""
    calls: Mapping[str, str] = field(default_factory=dict)
    """the services that it calls, and the field of its settings that lists the addresses of each"""
    needs: frozenset[Need] = frozenset()
    reads: frozenset[str] = frozenset()
    """the services whose tables it reads besides its own; every service reads what is of none, `public.cluster`"""
    waits_for_postgres: bool = True
    """whether it starts only where Postgres is; else it starts with what is known from its last start"""
    instance: str | None = None
    """the field of its settings that names an instance whose disk must be found again"""
    replicas: int = 2
    """number of processes in `tally cluster`, unless an option sets it"""
    commands: Sequence[str] = ()
    """the commands of `tally` that `services/cli/<name>` adds"""

    @property
    def health(self) -> str:
        """The gRPC service whose health is that of the process; "" is the server as a whole."""
        return self.serves[0].full_name if self.serves else ""

    @property
    def settings(self) -> "type[BaseModel]":
        """The model of its settings."""
        model: type[BaseModel] = getattr(
            import_module(f"services.{self.name}.settings"), f"{self.name.capitalize()}Settings"
        )
        return model

    @property
    def open(self) -> "Callable[[Context, Any], AbstractAsyncContextManager[Opened]]":
        """Opens it with settings of its model."""
        found: Callable[[Context, Any], AbstractAsyncContextManager[Opened]] = getattr(
            import_module(f"services.{self.name}.app"), f"open_{self.name}"
        )
        return found

    def variable_of(self, setting: str) -> str:
        """The environment variable of one of its settings."""
        return f"TALLY_{self.name}__{setting}".upper()


def _services_of(package: str, *files: str) -> tuple[ServiceDescriptor, ...]:
    """The gRPC services of files of `proto/tally/<package>/v1/`."""
    modules = [import_module(f"tally.{package}.v1.{file}_pb2") for file in files]
    return tuple(service for each in modules for service in each.DESCRIPTOR.services_by_name.values())


# Each after those that it calls: they start in this order, and stop in the reverse one.
SERVICES: Sequence[Service] = (
    Service(
        name="counting",
        purpose="makes events durable and counts them",
        serves=_services_of("counting", "counting", "dead_letters"),
        direct=True,
        needs=frozenset({Need.POSTGRES, Need.DISK}),
        waits_for_postgres=False,
        instance="shard",
        replicas=3,
        commands=("dead-letters", "floor"),
    ),
    Service(
        name="query",
        purpose="answers counts and statistics",
        serves=_services_of("query", "query"),
        routed=_services_of("query", "query"),
        needs=frozenset({Need.POSTGRES, Need.VALKEY}),
        reads=frozenset({"counting", "replication"}),
        commands=("get",),
    ),
    Service(
        name="replication",
        purpose="carries rows to other regions, and takes in theirs",
        serves=_services_of("replication", "entries", "peers", "replication"),
        routed=_services_of("replication", "entries", "peers"),
        needs=frozenset({Need.POSTGRES}),
        reads=frozenset({"counting"}),
        replicas=1,
        commands=("regions", "locations", "replication"),
    ),
    Service(
        name="catalog",
        purpose="finds resources by who may see them",
        serves=_services_of("catalog", "find", "resource", "rights"),
        routed=_services_of("catalog", "find"),
        needs=frozenset({Need.POSTGRES, Need.VALKEY}),
        commands=("catalog",),
    ),
    Service(
        name="scheduler",
        purpose="plans background work and leases it to workers",
        serves=_services_of("scheduler", "work", "job", "population"),
        routed=_services_of("scheduler", "population", "job"),
        needs=frozenset({Need.POSTGRES}),
        commands=("videos", "channels", "quota", "jobs"),
    ),
    Service(
        name="partitioner",
        purpose="takes events in and sends them to the shards",
        serves=_services_of("ingest", "ingest"),
        routed=_services_of("ingest", "ingest"),
        calls={"counting": "shards"},
        needs=frozenset({Need.POSTGRES}),
        waits_for_postgres=False,
        commands=("count", "replay"),
    ),
    Service(
        name="backfill",
        purpose="has Bluesky repositories fetched, and counts them",
        serves=_services_of("backfill", "backfill", "delivery"),
        routed=_services_of("backfill", "backfill"),
        calls={"scheduler": "scheduler", "partitioner": "partitioner"},
        needs=frozenset({Need.POSTGRES, Need.OBJECT_STORE}),
        replicas=1,
        commands=("backfill",),
    ),
    Service(
        name="worker",
        purpose="does the work that the scheduler leases",
        calls={"scheduler": "scheduler", "backfill": "backfill"},
    ),
)
ALL = "all"

BY_NAME: Mapping[str, Service] = {service.name: service for service in SERVICES}


def check_names(names: Sequence[str]) -> None:
    """Raises NotReady for a name that is no service's."""
    if unknown := [name for name in names if name != ALL and name not in BY_NAME]:
        raise NotReady(f"no service is called {', '.join(unknown)}. There are:{describe()}")


def describe() -> str:
    """A line for each service, and one for all of them."""
    known = {ALL: "runs all of them", **{service.name: service.purpose for service in SERVICES}}
    return "".join(f"\n  {name:<12} {purpose}" for name, purpose in known.items())


def stages() -> list[list[str]]:
    """The services in the order in which a cluster stops: each stage together, callers before those that they call."""
    remaining = list(SERVICES)
    ordered: list[list[str]] = []
    while remaining:
        called = {name for service in remaining for name in service.calls}
        ordered.append([service.name for service in remaining if service.name not in called])
        remaining = [service for service in remaining if service.name in called]
    return ordered
