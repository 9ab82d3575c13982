"""The context with which every service is opened."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.domain.clock import Clock
from libs.runtime.background import Background
from libs.runtime.handles import Handles
from libs.stores.postgres import PostgresSettings
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
    postgres: PostgresSettings
    objects_url: str
    """the object store"""
    data_dir: Path
    """where a service that needs a disk keeps its data"""
    handles: Handles = field(default_factory=Handles)
    """offered by the services of this process that were opened before"""
