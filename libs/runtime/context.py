"""What every service is opened with."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome
from libs.runtime.background import Background
from libs.stores.schema import Cluster
from libs.telemetry.setup import Telemetry

Offer = Callable[[Sequence[Entry]], list[asyncio.Future[Outcome]]]
"""Queues entries for a shard's journal, all or none; the outcome of each, in order. Raises Overloaded when there is no
room, and Unavailable while there is neither a log nor a spool."""


@dataclass(frozen=True, slots=True)
class Context:
    """One process's connections and its part in the cluster."""

    dsn: str
    valkey_url: str
    pool: Any
    """asyncpg.Pool"""
    cluster: Cluster
    clock: Clock
    """Postgres's"""
    background: Background
    telemetry: Telemetry
    offer: Offer | None = None
    """of the shard in this process; None: the shards are reached by gRPC"""
