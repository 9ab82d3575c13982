"""The table of the services: what each is for and how it is opened."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from libs.domain.errors import NotReady
from libs.runtime.context import Context
from libs.runtime.service import Opened
from services.counting.app import open_counting
from services.partitioner.app import open_partitioner
from services.query.app import open_query
from services.scheduler.app import open_scheduler
from services.settings import Settings

Open = Callable[[Context, Settings], AbstractAsyncContextManager[Opened]]


@dataclass(frozen=True, slots=True)
class Service:
    """One box of the README's diagram."""

    name: str
    purpose: str
    open: Open


# In the order in which they are opened; they are drained in the reverse order.
SERVICES: Sequence[Service] = (
    Service(
        "counting",
        "makes events durable and counts them",
        lambda context, settings: open_counting(
            context, settings.counting, settings.postgres, settings.data_dir
        ),
    ),
    Service(
        "partitioner",
        "takes events in and sends them to the shards",
        lambda context, settings: open_partitioner(context, settings.partitioner),
    ),
    Service(
        "query",
        "answers counts and statistics",
        lambda context, settings: open_query(context, settings.query),
    ),
    Service(
        "scheduler",
        "plans background work and leases it to workers",
        lambda context, settings: open_scheduler(context, settings.scheduler, settings.postgres),
    ),
)
ALL = "all"


def check_names(names: Sequence[str]) -> None:
    """Raises NotReady for a name that is no service's."""
    known = {ALL: "runs all of them", **{service.name: service.purpose for service in SERVICES}}
    if unknown := [name for name in names if name not in known]:
        there_are = "".join(f"\n  {name:<12} {purpose}" for name, purpose in known.items())
        raise NotReady(f"no service is called {', '.join(unknown)}. There are:{there_are}")
