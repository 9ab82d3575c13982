"""What a run leaves: a table on the screen and a JSON file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtests.bench.figures import Result, in_milliseconds, per_million


def to_json(result: Result) -> dict[str, Any]:
    """A result as it is kept. One that is not exact has a fault and no figure."""
    told: dict[str, Any] = {
        "name": result.name,
        "request_events": result.request_events,
        "mix": result.mix,
        "lacks": list(result.lacks),
        "is_exact": result.fault is None,
    }
    if result.fault is not None:
        return {**told, "fault": result.fault}
    events = sum(each.events for each in result.rounds)
    return {
        **told,
        "in_flight": result.in_flight,
        "events": events,
        "events_per_s": round(result.events_per_s, 1),
        "counted_per_s": round(result.counted_per_s, 1),
        "rounds_events_per_s": [round(each.events_per_s, 1) for each in result.rounds],
        "rounds_counted_per_s": [round(each.counted_per_s, 1) for each in result.rounds],
        "full_load_latency_ms": in_milliseconds(result.closed_latencies_s),
        "half_load_events_per_s": round(result.half_load_per_s, 1),
        "half_load_latency_ms": in_milliseconds(result.latencies_s),
        "server_cpu_s_per_million": _per_million(result, "server_cpu_seconds"),
        "client_cpu_s_per_million": _per_million(result, "client_cpu_seconds"),
        "disk_bytes_per_million": round(result.disk_bytes_per_million),
        "memory_bytes": result.memory_bytes,
        **result.observations,
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write it whole, or leave what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(document, indent=2) + "\n")
    new.replace(path)


def show(console: Console, document: Mapping[str, Any]) -> None:
    """Everything that a run found."""
    _show_results(console, document["results"])
    if document["ratios"]:
        _show_ratios(console, document["ratio_details"])
    if document["targets"]:
        _show_targets(console, document["targets"])
    _show_lacks(console, document["results"])
    machine = document["machine"]
    console.print(
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"Python {machine['python']}, grpcio {machine['grpcio']}, {machine['postgres']}, {machine['valkey']}; "
        f"{document['seconds']:.0f} s in all."
    )


def _show_results(console: Console, results: Sequence[Mapping[str, Any]]) -> None:
    """A line for each contender."""
    table = _table(console, "Side by side (latencies in ms at half of the rate)")
    table.add_column("", no_wrap=True)
    for heading in (
        *("in flight", "events/s", "counted/s", "p50", "p99", "p99.9"),
        *("CPU s/M", "client", "disk MB/M", "memory MB", "lag s"),
    ):
        table.add_column(heading, justify="right")
    for result in results:
        if result["is_exact"]:
            table.add_row(result["name"], *_cells(result))
    console.print(table)
    for result in results:
        if not result["is_exact"]:
            console.print(f"{result['name']} has no figure: {result['fault']}")


def _show_ratios(console: Console, ratios: Mapping[str, Mapping[str, Any]]) -> None:
    """A line for each ratio."""
    table = _table(console, "Ratios (medians of the rounds)")
    table.add_column("", no_wrap=True)
    for heading in ("ratio", "least", "most", "until counted"):
        table.add_column(heading, justify="right")
    for name, ratio in ratios.items():
        table.add_row(name, *(f"{ratio[each]:.2f}" for each in ("median", "least", "most", "until_counted")))
    console.print(table)


def _show_targets(console: Console, targets: Sequence[Mapping[str, Any]]) -> None:
    """A line for each target."""
    table = _table(console, "Targets")
    table.add_column("", no_wrap=True)
    for heading in ("measured", "bound", "verdict"):
        table.add_column(heading, justify="right")
    for target in targets:
        bound = f"≥ {target['at_least']:.2f}" if "at_least" in target else f"≤ {target['at_most']:.2f}"
        table.add_row(
            target["what"], f"{target['measured']:.2f}", bound, "met" if target["is_met"] else "missed"
        )
    console.print(table)


def _show_lacks(console: Console, results: Sequence[Mapping[str, Any]]) -> None:
    """What each peer does not do, and Tally does in the same figure."""
    told = {result["name"].rstrip("0123456789-"): result["lacks"] for result in results if result["lacks"]}
    for name, lacks in told.items():
        console.print(f"{name} does without {', '.join(lacks)}.")


def _cells(result: Mapping[str, Any]) -> list[str]:
    latency = result["half_load_latency_ms"]
    return [
        str(result["in_flight"]),
        f"{result['events_per_s']:,.0f}",
        f"{result['counted_per_s']:,.0f}",
        *(_number(latency[name]) for name in ("p50", "p99", "p99.9")),
        f"{result['server_cpu_s_per_million']:.2f}",
        f"{result['client_cpu_s_per_million']:.2f}",
        f"{result['disk_bytes_per_million'] / 1e6:,.0f}",
        f"{result['memory_bytes'] / 1e6:,.0f}",
        _number(result.get("lag_max_s")),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _per_million(result: Result, name: str) -> float:
    total = sum(getattr(each, name) for each in result.rounds)
    return round(per_million(total, sum(each.events for each in result.rounds)), 3)


def _table(console: Console, title: str) -> Table:
    box = SIMPLE if console.is_terminal else None  # in a file, lines are in the way
    return Table(title=title, title_justify="left", box=box)
