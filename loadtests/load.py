"""`make load`: users on a throw-away Tally for a while; the exit code is 1 unless all that they saw is right.

In the scenario `count` they count and read, and counted = acknowledged is proved; in `find` they find in the catalog,
and store and hide meanwhile; in `sync` they work as workers of the scheduler, and each member has one outcome; in
`backfill` they create jobs over a simulated host and count, and dataset and counts are those of its repositories.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import FrameType

import gevent
import locust
from locust.env import Environment

from loadtests.stack import open_stack
from tally.contract.errors import TallyError

_SCENARIOS = {
    "count": "loadtests.locustfile",
    "find": "loadtests.catalog.locustfile",
    "index": "loadtests.entries_locustfile",
    "sync": "loadtests.sync.locustfile",
    "backfill": "loadtests.backfill.locustfile",
}


def main() -> int:
    arguments = _parse()
    signal.signal(signal.SIGTERM, _exit)  # so that SIGTERM too ends the stack in order
    print("Starting a throw-away Tally …", flush=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="tally-load-") as folder,
            _surroundings_of(arguments.scenario) as settings,
            open_stack(Path(folder), Path(folder) / "tally.log", settings) as address,
        ):
            print(f"{arguments.users} users for {arguments.seconds:g} s on {address} …", flush=True)
            return run_load(address, arguments.users, arguments.seconds, arguments.scenario)
    except TallyError as error:
        print(f"tally: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


@contextmanager
def _surroundings_of(scenario: str) -> Iterator[Mapping[str, str]]:
    """Whatever a scenario needs besides the throw-away Tally; yields what that must be set to."""
    opening = getattr(import_module(_SCENARIOS[scenario]), "open_surroundings", None)
    with nullcontext({}) if opening is None else opening() as settings:
        yield settings


def run_load(address: str, users: int, seconds: float, scenario: str = "count") -> int:
    """Run the users of a locustfile against `address`; 0 when the verdict is right."""
    module = import_module(_SCENARIOS[scenario])  # it adds what begins and proves the run to locust's events
    environment = Environment(user_classes=module.USERS, events=locust.events, host=address)
    runner = environment.create_local_runner()
    module.prepare(environment=environment, runner=runner)
    runner.start(users, spawn_rate=users)
    gevent.sleep(seconds)
    runner.quit()
    return 1 if environment.process_exit_code is None else environment.process_exit_code


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description=__doc__)
    parser.add_argument("--scenario", choices=_SCENARIOS, default="count")
    parser.add_argument("--users", type=int, default=8, help="users at once (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long (default %(default)g)")
    return parser.parse_args()


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
