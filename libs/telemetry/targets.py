"""The file that tells where the metrics of running processes are, as Prometheus reads it (`file_sd_configs`)."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_FILE = "targets.json"


@dataclass(frozen=True, slots=True)
class Target:
    """One process: `host:port` of its endpoint, its service as `job`, and its name as `instance`."""

    address: str
    job: str
    instance: str


@contextmanager
def keep_targets(folder: Path, targets: Iterable[Target]) -> Iterator[Path]:
    """Keep the file in a data folder for as long as the processes run; yields its path."""
    groups = [
        {"targets": [target.address], "labels": {"job": target.job, "instance": target.instance}}
        for target in targets
    ]
    path = path_in(folder)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(groups, indent=1) + "\n")
    new.replace(path)  # a reader gets the old file or the new one
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def path_in(folder: Path) -> Path:
    """The file of a data folder."""
    return folder / _FILE


def read_addresses(folder: Path) -> list[str]:
    """The addresses in the file of a data folder. Raises OSError, or ValueError for one that cannot be read."""
    try:
        return [
            str(target) for group in json.loads(path_in(folder).read_text()) for target in group["targets"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path_in(folder)} is not a list of targets") from error
