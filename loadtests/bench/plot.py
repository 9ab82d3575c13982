"""The plot of a run: one bar for each contender, in events/s."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_TALLY, _PEER, _INK, _GRID = "#1f6f8b", "#b8bfc6", "#22272b", "#e4e7ea"
_PANELS = ((5_000, "5,000 events a request"), (1_000, "1,000 events a request"), (1, "one event a call"))
_NAMES = {
    "tally-columns": "Tally, columns",
    "tally-hot": "Tally, columns, half of all on one video",
    "tally-stream": "Tally, columns on one stream",
    "tally-direct": "Tally, columns straight to the shards",
    "tally-rows": "Tally, a message per event",
    "tally-batched": "Tally, events handed in one by one",
    "tally-single": "Tally, CountEvent",
    "valkey-lua": "Valkey, a script that dedupes, no gRPC",
    "valkey-lua-door": "Valkey, the same behind gRPC",
    "valkey-hincrby": "Valkey, pipelined HINCRBY",
    "postgres-batch": "Postgres, dedupe row + upsert, no gRPC",
    "postgres-batch-door": "Postgres, the same behind gRPC",
    "postgres-single": "Postgres, one upsert per event",
    "echo": "a gRPC echo, counts nothing",
}


def draw(results: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], path: Path) -> bool:
    """Write a PNG of the exact results that have a place in it. False, and nothing is written, when none has."""
    panels = [(title, _choose(results, size)) for size, title in _PANELS]
    panels = [(title, bars) for title, bars in panels if bars]
    if not panels:
        return False
    with mpl.rc_context({"font.size": 10, "text.color": _INK, "axes.labelcolor": _INK}):
        height = 1.1 + sum(0.55 + 0.36 * len(bars) for _, bars in panels)
        figure = Figure(figsize=(8.6, height), dpi=150, facecolor="white", layout="constrained")
        axes = figure.subplots(
            len(panels), 1, squeeze=False, height_ratios=[len(bars) + 1.2 for _, bars in panels]
        )
        for (title, bars), place in zip(panels, axes[:, 0], strict=True):
            _draw_panel(place, title, bars)
        figure.suptitle(
            "Durable events per second, every store with fsync before it acknowledges",
            fontsize=12,
            fontweight="bold",
        )
        figure.supxlabel(
            f"{machine['cores']} cores for client and servers, {machine['memory_bytes'] / 2**30:.0f} GiB; "
            f"Python {machine['python']}, grpcio {machine['grpcio']}; median of the rounds, range as a line",
            fontsize=8,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return True


def _choose(results: Sequence[Mapping[str, Any]], size: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Label and result of each bar, the fastest last, which is drawn on top."""
    suffix = f"-{size}"
    chosen = [
        (_NAMES[result["name"].removesuffix(suffix)], result)
        for result in results
        if result["is_exact"]
        and result["request_events"] == size
        and result["name"].removesuffix(suffix) in _NAMES
    ]
    return sorted(chosen, key=lambda each: float(each[1]["events_per_s"]))


def _draw_panel(place: Axes, title: str, bars: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    rates = [float(result["events_per_s"]) for _, result in bars]
    colours = [_TALLY if label.startswith("Tally") else _PEER for label, _ in bars]
    spread = [
        [rate - min(result["rounds_events_per_s"]) for rate, (_, result) in zip(rates, bars, strict=True)],
        [max(result["rounds_events_per_s"]) - rate for rate, (_, result) in zip(rates, bars, strict=True)],
    ]
    place.barh(
        range(len(bars)), rates, color=colours, height=0.68, xerr=spread, error_kw={"ecolor": _INK, "lw": 0.8}
    )
    widest = max(max(result["rounds_events_per_s"]) for _, result in bars)
    for at, (_, result) in enumerate(bars):
        end = max(result["rounds_events_per_s"])
        place.text(end + widest * 0.012, at, f"{result['events_per_s']:,.0f}", va="center", fontsize=9)
    place.set_yticks(range(len(bars)), [label for label, _ in bars])
    place.set_xlim(0, widest * 1.13)
    place.xaxis.set_major_locator(MaxNLocator(6))
    place.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    place.set_xlabel("events/s")
    place.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
    place.grid(axis="x", color=_GRID)
    place.set_axisbelow(True)
    place.tick_params(length=0)
    for side in ("top", "right", "left"):
        place.spines[side].set_visible(False)
