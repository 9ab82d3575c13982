"""Reads the identity of the cluster: from Postgres, or, if that is unreachable, as of the last start."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from libs.stores.known_cluster import keep_cluster, load_cluster
from libs.stores.postgres import AWAY, reaching_postgres
from libs.stores.schema import Cluster, check_partition_count, read_cluster
from libs.stores.server_clock import ServerClock
from services.migrations import list_migrations
from tally.contract.errors import NotReady, Unavailable

_LOGGER = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0


class Joining:
    """The way of one process into its cluster."""

    def __init__(self, pool: Any, partition_count: int, clock: ServerClock, folder: Path | None) -> None:
        """`folder`: where the cluster is kept for the next start; None: this process needs Postgres to start."""
        self._pool = pool
        self._partition_count = partition_count
        self._clock = clock
        self._folder = folder
        self.is_confirmed = False
        """whether the identity was read from Postgres itself"""

    async def join(self) -> Cluster:
        """Read the cluster and the clock. Raises NotReady and PartitionCountMismatch.

        While Postgres is unreachable: the cluster of the last start, with the clock of this machine.
        """
        try:
            with reaching_postgres():
                return await self._ask()
        except NotReady:
            raise
        except Unavailable as error:
            is_wrong_dsn = isinstance(error.__cause__, ValueError)
            known = None if self._folder is None or is_wrong_dsn else load_cluster(self._folder)
            if known is None:
                raise _cannot_reach(error.__cause__, None if is_wrong_dsn else self._folder) from error
            check_partition_count(known, self._partition_count)
            _LOGGER.warning(
                "Postgres is unreachable; starting with the cluster of the last start, and by this machine's clock",
                cluster_id=str(known.cluster_id),
                folder=str(self._folder),
                error=str(error.__cause__),
            )
            return known
        except (*AWAY, ValueError) as error:
            raise _cannot_reach(error, None) from error

    async def confirm(self, joined: Cluster) -> None:
        """Once Postgres is back: see that it is of the same cluster. Raises NotReady and PartitionCountMismatch."""
        found = None
        while found is None:
            await asyncio.sleep(_LOOK_SECONDS)
            with suppress(*AWAY):
                found = await read_cluster(self._pool, self._partition_count, list_migrations())
        if difference := joined.difference_to(found):
            raise NotReady(difference)
        _LOGGER.info("Postgres is back, with the same cluster", cluster_id=str(found.cluster_id))

    async def _ask(self) -> Cluster:
        cluster = await read_cluster(self._pool, self._partition_count, list_migrations())
        await self._clock.read(self._pool)
        self.is_confirmed = True
        if self._folder is not None:
            try:
                keep_cluster(self._folder, cluster, self._clock.now_us())
            except OSError as error:
                _LOGGER.warning(
                    "cannot keep what a start without Postgres needs: TALLY_DATA_DIR must be a folder to write to",
                    folder=str(self._folder),
                    error=str(error),
                )
        return cluster


def _cannot_reach(error: BaseException | None, folder: Path | None) -> NotReady:
    where = f". (Without it only a service that has run before can start, and nothing is known in {folder})"
    return NotReady(
        f"cannot reach Postgres: {error}. Check TALLY_POSTGRES__DSN and that it is up{where if folder else ''}"
    )
