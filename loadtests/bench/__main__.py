"""`python -m loadtests.bench`: measure, print the tables, and keep the figures and their plot.

A run of everything renews loadtests/results/bench.json, docs/bench.png and what the pages say of it; one of
chosen contenders only prints, unless --json or --plot says where to write.
"""

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

from loadtests.bench import catalogue, page, plot, report
from loadtests.bench.contender import Contender
from loadtests.bench.events import make_events
from loadtests.bench.figures import Result, compute_ratios, judge_targets
from loadtests.bench.machine import describe_machine
from loadtests.bench.rounds import Plan, Tell, run_group
from tally.contract.errors import TallyError

ROOT = Path(__file__).parents[2]
JSON = ROOT / "loadtests" / "results" / "bench.json"
PLOT = ROOT / "docs" / "bench.png"
PAGES = {"headline": ROOT / "README.md", "figures": ROOT / "docs" / "performance.md"}
_WRONG, _USAGE, _STOPPED = 1, 2, 130


def main() -> int:
    """Run what is asked for; exit code 1 when a contender has no figure."""
    arguments = _parse()
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: what was started is stopped
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    data_dir = Path(os.environ.get("TALLY_DATA_DIR", ".tally"))
    wanted = [name for name in arguments.only.split(",") if name]
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        groups = catalogue.choose(wanted, is_full=arguments.full)
        document = uvloop.run(run(console, groups, _plan(arguments), data_dir))
    except (ValueError, TallyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return _USAGE
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("bench: stopped before the end; nothing is left of the servers", file=sys.stderr)
        return _STOPPED
    report.show(console, document)
    _keep(console, document, arguments.json or _unless(wanted, JSON), arguments.plot or _unless(wanted, PLOT))
    if not wanted:
        for kind, path in PAGES.items():
            page.renew(path, kind, document)
            console.print(f"{path} is renewed.")
    return 0 if all(each["is_exact"] for each in document["results"]) else _WRONG


async def run(
    console: Console, groups: Sequence[Sequence[Contender]], plan: Plan, data_dir: Path
) -> dict[str, Any]:
    """Measure the groups one after the other; everything that is known of the run."""
    started = time.perf_counter()
    tell = _make_tell(console, started)
    results: list[Result] = []
    for group in groups:
        mixes = {each.mix.name: each.mix for each in group}
        tell(f"making {plan.events:,} events: {', '.join(mixes)}")
        events = {name: make_events(plan.events, mix, plan.seed) for name, mix in mixes.items()}
        results += await run_group(group, events, plan, data_dir, tell)
    named = {each.name: each for each in results}
    details = compute_ratios(named, catalogue.RATIOS)
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 1),
        "machine": await describe_machine(),
        # None are set by default; they are for trying out other settings.
        "settings": {name: value for name, value in os.environ.items() if name.startswith("TALLY_")},
        "plan": {name: getattr(plan, name) for name in plan.__slots__},
        "ratios": {name: round(each["median"], 3) for name, each in details.items()},
        "ratio_details": details,
        "targets": judge_targets(named, details),
        "results": [report.to_json(each) for each in results],
    }


def _keep(console: Console, document: dict[str, Any], json: Path | None, png: Path | None) -> None:
    if json:
        report.write_json(json, document)
        console.print(f"The figures are in {json}.")
    if png and plot.draw(document["results"], document["machine"], png):
        console.print(f"The plot is in {png}.")


def _unless(wanted: Sequence[str], path: Path) -> Path | None:
    return None if wanted else path


def _make_tell(console: Console, started: float) -> Tell:
    def tell(what: str) -> None:
        console.print(f"{time.perf_counter() - started:6.0f} s  {what}")

    return tell


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        events=arguments.events,
        rounds=arguments.rounds,
        round_seconds=arguments.round_seconds,
        ramp_seconds=arguments.ramp_seconds,
        open_seconds=arguments.open_seconds,
        seed=arguments.seed,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    plan = Plan()
    add = parser.add_argument
    add("--only", default=os.environ.get("ONLY", ""), help="these contenders alone: a,b,c (ONLY)")
    add("--full", action="store_true", default=os.environ.get("FULL") == "1", help="all of them (FULL=1)")
    add("--events", type=_positive, default=plan.events, help="of a round (default %(default)s)")
    add("--rounds", type=_positive, default=plan.rounds, help="of each contender (default %(default)s)")
    add("--round-seconds", type=float, default=plan.round_seconds, help="at most (default %(default)s)")
    add("--ramp-seconds", type=float, default=plan.ramp_seconds, help="for each number of callers tried")
    add("--open-seconds", type=float, default=plan.open_seconds, help="at half load (default %(default)s)")
    add("--seed", type=int, default=plan.seed, help="of the events (default %(default)s)")
    add("--json", type=Path, help="where the figures go")
    add("--plot", type=Path, help="where the plot goes")
    return parser.parse_args()


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
