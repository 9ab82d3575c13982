"""Pure: percentiles, medians over rounds, ratios of contenders that ran side by side, and the targets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

PERCENTILES = (50.0, 99.0, 99.9)
LATENCY_TARGETS_MS = {50.0: 5.0, 99.0: 50.0}
LATENCY_OF = ("tally-columns-1000", "tally-columns-5000", "tally-single-1")


@dataclass(frozen=True, slots=True)
class Round:
    """One closed loop of one contender, until everything acknowledged was in the counts too."""

    events: int
    requests: int
    seconds: float
    """until the last acknowledgement"""
    counted_seconds: float
    """until everything was in the counts"""
    server_cpu_seconds: float
    client_cpu_seconds: float

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    @property
    def counted_per_s(self) -> float:
        return self.events / self.counted_seconds


@dataclass(slots=True)
class Result:
    """What one contender did. Its figures count only if `fault` is None."""

    name: str
    request_events: int
    mix: str
    lacks: Sequence[str]
    fault: str | None = None
    in_flight: int = 0
    rounds: list[Round] = field(default_factory=list)
    half_load_per_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    """at half load"""
    closed_latencies_s: list[float] = field(default_factory=list)
    memory_bytes: int = 0
    disk_bytes_per_million: float = 0.0
    observations: dict[str, Any] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        """Acknowledged; the median of the rounds."""
        return median(each.events_per_s for each in self.rounds)

    @property
    def counted_per_s(self) -> float:
        """In the counts; the median of the rounds."""
        return median(each.counted_per_s for each in self.rounds)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The events/s of `of` over those of `over`, round by round. `target`: at least this; None where there is none."""

    name: str
    of: str
    over: str
    target: float | None = None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least so many percent are not above (nearest rank).

    None when there are too few values for it to be another than the largest: below 1,000 for 99.9.
    """
    if len(values) * (100 - percent) < 100 - 1e-6:
        return None
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100 - 1e-9) - 1]


def in_milliseconds(latencies_s: Sequence[float]) -> dict[str, float | int | None]:
    """The percentiles, and of how many requests."""
    found: dict[str, float | int | None] = {"samples": len(latencies_s)}
    for percent in PERCENTILES:
        value = percentile(latencies_s, percent)
        found[f"p{percent:g}"] = None if value is None else round(value * 1000, 3)
    return found


def ratios_by_round(of: Sequence[Round], over: Sequence[Round]) -> list[float]:
    """One for each round that both have: they ran within seconds of each other."""
    return [a.events_per_s / b.events_per_s for a, b in zip(of, over, strict=False)]


def compute_ratios(results: Mapping[str, Result], ratios: Sequence[Ratio]) -> dict[str, dict[str, Any]]:
    """Median, spread and whether the target is met, of each ratio whose two sides are exact."""
    found: dict[str, dict[str, Any]] = {}
    for ratio in ratios:
        of, over = results.get(ratio.of), results.get(ratio.over)
        if of is None or over is None or of.fault or over.fault:
            continue
        each = ratios_by_round(of.rounds, over.rounds)
        found[ratio.name] = {
            "median": median(each),
            "least": min(each),
            "most": max(each),
            "until_counted": median(
                a.counted_per_s / b.counted_per_s for a, b in zip(of.rounds, over.rounds, strict=False)
            ),
            "of": ratio.of,
            "over": ratio.over,
            "target": ratio.target,
            "is_met": None if ratio.target is None else median(each) >= ratio.target,
        }
    return found


def judge_targets(
    results: Mapping[str, Result], ratios: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each target that this run says something about: what was asked for, what was measured, and whether it is met."""
    judged = [
        {"what": name, "measured": ratio["median"], "at_least": ratio["target"], "is_met": ratio["is_met"]}
        for name, ratio in ratios.items()
        if ratio["target"] is not None
    ]
    for name in LATENCY_OF:
        result = results.get(name)
        if result is None or result.fault:
            continue
        for percent, at_most in LATENCY_TARGETS_MS.items():
            value = percentile(result.latencies_s, percent)
            if value is not None:
                measured = value * 1000
                judged.append(
                    {
                        "what": f"{name}: acknowledged at half load, p{percent:g}, ms",
                        "measured": measured,
                        "at_most": at_most,
                        "is_met": measured <= at_most,
                    }
                )
    return judged


def per_million(amount: float, events: int) -> float:
    """So much for a million events."""
    return amount * 1_000_000 / events
