"""The identity of the cluster as of the last start, in a file: enough to start without Postgres."""

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from libs.stores.schema import Cluster
from tally.contract.errors import NotReady

FILE = "cluster.json"
_MOST_BEHIND_US = 1_000_000


def keep_cluster(folder: Path, cluster: Cluster, now_us: int) -> None:
    """Write the file, all of it or nothing; on the disk when this returns. Raises OSError.

    `now_us`: the time by Postgres's clock, microseconds since 1970-01-01 UTC.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "cluster_id": str(cluster.cluster_id),
        "partition_count": cluster.partition_count,
        "epoch": cluster.epoch,
        "seen_at_us": now_us,
    }
    descriptor, name = tempfile.mkstemp(prefix=f"{FILE}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(fields, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(folder / FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def load_cluster(folder: Path, wall: Callable[[], float] = time.time) -> Cluster | None:
    """The cluster as it was when the file was written; None when there is no file.

    Raises NotReady when the file cannot be read, or when this machine's clock (`wall`) is before the time of the file:
    without Postgres it is the only clock there is.
    """
    path = folder / FILE
    try:
        fields = json.loads(path.read_text())
        cluster = Cluster(
            uuid.UUID(fields["cluster_id"]), int(fields["partition_count"]), int(fields["epoch"])
        )
        seen_at_us = int(fields["seen_at_us"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReady(
            f"Postgres is unreachable, and what is known of the cluster cannot be read from {path}: {error!r}. "
            "Start Postgres first; the file is then written anew"
        ) from error
    behind_us = seen_at_us - int(wall() * 1_000_000)
    if behind_us > _MOST_BEHIND_US:
        raise NotReady(
            f"Postgres is unreachable, and this machine's clock is wrong: it is {behind_us / 1_000_000:,.0f} s before "
            f"the time in {path}. Set the clock right, or start Postgres first"
        )
    return cluster
