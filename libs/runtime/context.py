"""What every service is opened with."""

from dataclasses import dataclass
from typing import Any

from libs.domain.clock import Clock
from libs.runtime.background import Background
from libs.stores.schema import Cluster
from libs.telemetry.setup import Telemetry


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
