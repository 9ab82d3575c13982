"""The figures of a run as text of a page: what README.md and docs/performance.md say is what was measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def renew(path: Path, kind: str, document: Mapping[str, Any]) -> None:
    """Put one kind of text between its two marks in a page. Raises ValueError when it does not have them."""
    text = path.read_text()
    before, begin, rest = text.partition(f"<!-- {kind} -->\n")
    _, end, after = rest.partition(f"<!-- end of {kind} -->\n")
    if not (begin and end):
        raise ValueError(f"{path} has no place for the {kind}: <!-- {kind} --> and <!-- end of {kind} -->")
    path.write_text(f"{before}{begin}{RENDERERS[kind](document)}{end}{after}")


def render_headline(document: Mapping[str, Any]) -> str:
    """The rates in a sentence."""
    results = {result["name"]: result for result in document["results"]}
    single = results["tally-single-1"]
    return (
        f"On {document['machine']['cores']} cores, for clients, services and Postgres together: "
        f"{_rates(results['tally-columns-1000'])} events a second in requests of 1,000,\n"
        f"{_rates(results['tally-columns-5000'])} in requests of 5,000, and "
        f"{single['events_per_s']:,.0f} one at a time from {single['in_flight']} callers,\n"
        "each durable when it is acknowledged (in brackets: until it is in the rollups too).\n"
    )


def _rates(result: Mapping[str, Any]) -> str:
    return f"{result['events_per_s']:,.0f} ({result['counted_per_s']:,.0f})"


def render_figures(document: Mapping[str, Any]) -> str:
    """Results, ratios and targets as Markdown."""
    machine = document["machine"]
    told = (
        f"Measured {document['measured_at'][:10]} on {machine['cores']} cores ({machine['processor']}) for clients, "
        f"services and stores, Python {machine['python']}, grpcio {machine['grpcio']}; medians of "
        f"{document['plan']['rounds']} rounds of at most {document['plan']['round_seconds']:g} s, latencies in ms at "
        "half of the rate (no p99.9 of fewer than 1,000 requests), CPU seconds and MB on disk for a million events. "
        "The last number of a name is the events of a request."
    )
    return "\n".join(
        (
            told,
            "",
            *_table(
                (
                    "",
                    "in flight",
                    "events/s",
                    "until counted",
                    "p50",
                    "p99",
                    "p99.9",
                    "CPU, servers",
                    "client",
                    "disk",
                    "memory",
                ),
                [_result_row(result) for result in document["results"] if result["is_exact"]],
            ),
            "",
            "A ratio is taken within each round; the median of the rounds is not that of two medians above.",
            "",
            *_table(
                ("ratio", "median", "least", "most", "until counted"),
                [
                    (
                        f"`{name}`",
                        *(f"{ratio[key]:.2f}" for key in ("median", "least", "most", "until_counted")),
                    )
                    for name, ratio in document["ratio_details"].items()
                ],
            ),
            "",
            *_table(
                ("target", "measured", "bound", "verdict"),
                [_target_row(target) for target in document["targets"]],
            ),
            "",
        )
    )


def _result_row(result: Mapping[str, Any]) -> Sequence[str]:
    latency = result["half_load_latency_ms"]
    return (
        result["name"],
        f"{result['in_flight']:,}",
        f"{result['events_per_s']:,.0f}",
        f"{result['counted_per_s']:,.0f}",
        *("" if latency[name] is None else f"{latency[name]:.1f}" for name in ("p50", "p99", "p99.9")),
        f"{result['server_cpu_s_per_million']:.2f}",
        f"{result['client_cpu_s_per_million']:.2f}",
        f"{result['disk_bytes_per_million'] / 1e6:,.0f}",
        f"{result['memory_bytes'] / 1e6:,.0f} MB",
    )


def _target_row(target: Mapping[str, Any]) -> Sequence[str]:
    bound = f"≥ {target['at_least']:.2f}" if "at_least" in target else f"≤ {target['at_most']:.2f}"
    return target["what"], f"{target['measured']:.2f}", bound, "met" if target["is_met"] else "missed"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(headings)} |",
        f"|---|{'--:|' * (len(headings) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


RENDERERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "headline": render_headline,
    "figures": render_figures,
}
