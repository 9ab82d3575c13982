"""Service level objectives, their recording rules, and the alerts on how fast their error budgets burn.

The windows and factors are those of the SRE workbook (https://sre.google/workbook/alerting-on-slos/): the budget of 30
days burns 14.4 times too fast (2 % of it in an hour), 6 times (5 % in six hours), or at its own rate for three days.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from libs.telemetry import catalogue
from services.monitoring.expressions import calls_of, error_ratio, methods_of
from services.registry import BY_NAME, SERVICES

MINUTE, HOUR, DAY = 60, 3_600, 86_400
AVAILABILITY = 0.999
"""part of the calls that do not fail by the fault of the service"""
FAST = 0.99
"""part of the calls that are answered within the time of their service"""
LATENCIES_SECONDS: Mapping[str, float] = {"partitioner": 0.2, "query": 0.2, "catalog": 0.2}
"""of the unary calls of these services; the bounds are those of buckets"""


@dataclass(frozen=True, slots=True)
class Burn:
    """Both windows must burn so fast: the long one shows that it matters, the short one that it goes on."""

    factor: float
    long_seconds: int
    short_seconds: int
    severity: str


BURNS = (
    Burn(14.4, HOUR, 5 * MINUTE, "page"),
    Burn(6.0, 6 * HOUR, 30 * MINUTE, "page"),
    Burn(1.0, 3 * DAY, 6 * HOUR, "ticket"),
)


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective of a service, and the part of its calls that may miss it."""

    name: str
    service: str
    budget: float

    def expression(self, window: str) -> str:
        """The part of the calls that miss it."""
        service = BY_NAME[self.service]
        if self.name == "availability":
            return error_ratio(service, window)
        name, _ = calls_of(service)
        unary = "|".join(
            method.name
            for each in service.routed
            for method in each.methods
            if not method.client_streaming and not method.server_streaming
        )
        matcher = f'{methods_of(service)}, rpc_method=~".*/({unary})"'
        bound = LATENCIES_SECONDS[self.service]
        fast = f'sum(rate({name}_bucket{{{matcher}, le="{bound:g}"}}[{window}]))'
        return f"1 - {fast} / sum(rate({name}_count{{{matcher}}}[{window}]))"


def objectives() -> Iterator[Objective]:
    """Those of every service."""
    for service in SERVICES:
        yield Objective("availability", service.name, 1 - AVAILABILITY)
    for name in LATENCIES_SECONDS:
        yield Objective("latency", name, 1 - FAST)


def windows() -> list[int]:
    """The seconds of every window, in order."""
    return sorted({seconds for burn in BURNS for seconds in (burn.long_seconds, burn.short_seconds)})


def bounds_are_buckets() -> bool:
    """Whether each latency is the bound of a bucket, so that its part can be read."""
    return set(LATENCIES_SECONDS.values()) <= set(catalogue.SECONDS)
