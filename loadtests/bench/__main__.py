"""`python -m loadtests.bench`: measure, print the table, write loadtests/results/bench.json and docs/bench.png."""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from loadtests.bench import catalogue, report
from loadtests.bench.contender import Contender
from loadtests.bench.events import make_events
from loadtests.bench.figures import Result, compute_ratios
from loadtests.bench.machine import describe_machine
from loadtests.bench.rounds import Plan, Tell, run_group

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "loadtests" / "results" / "bench.json"
_WRONG, _USAGE, _STOPPED = 1, 2, 130


def main() -> int:
    """Run what is asked for; exit code 1 when a contender was not exact."""
    arguments = _parse()
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: what was started is stopped
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    # Children are started while channels are open, and gRPC's core would warn of each.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        groups = catalogue.choose(_split(arguments.only), is_full=arguments.full)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return _USAGE
    plan = Plan(events=arguments.events, rounds=arguments.rounds, round_seconds=arguments.round_seconds)
    try:
        document = uvloop.run(_run(console, groups, plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("bench: stopped before the end; nothing is left of the servers", file=sys.stderr)
        return _STOPPED
    report.show_results(console, document["results"])
    report.show_ratios(console, document["ratio_details"])
    report.write_json(arguments.json, document)
    console.print(f"Written to {arguments.json}, after {document['seconds']:.0f} s.")
    return 0 if all(each["is_exact"] for each in document["results"]) else _WRONG


async def _run(console: Console, groups: Sequence[Sequence[Contender]], plan: Plan) -> dict[str, Any]:
    started = time.perf_counter()
    tell = _make_tell(console, started)
    results: list[Result] = []
    for group in groups:
        mixes = {each.mix.name: each.mix for each in group}
        tell(f"making {plan.events:,} events: {', '.join(mixes)}")
        events = {name: make_events(plan.events, mix, plan.seed) for name, mix in mixes.items()}
        results += await run_group(group, events, plan, tell)
    details = compute_ratios({each.name: each for each in results}, catalogue.RATIOS)
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 1),
        "machine": await describe_machine(),
        "plan": {name: getattr(plan, name) for name in plan.__slots__},
        "ratios": {name: round(each["median"], 3) for name, each in details.items()},
        "ratio_details": details,
        "results": [report.to_json(each) for each in results],
    }


def _make_tell(console: Console, started: float) -> Tell:
    def tell(what: str) -> None:
        console.print(f"{time.perf_counter() - started:6.0f} s  {what}")

    return tell


def _split(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    defaults = Plan()
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="these contenders alone: a,b,c")
    parser.add_argument(
        "--full", action="store_true", default=os.environ.get("FULL") == "1", help="all of them"
    )
    parser.add_argument(
        "--events", type=int, default=defaults.events, help="of a round (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="default %(default)s")
    parser.add_argument("--round-seconds", type=float, default=defaults.round_seconds, help="at most")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, help="where the figures go (default %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
