"""PromQL for the metrics of the catalogue, and for the golden metrics of a service."""

from collections.abc import Iterator
from dataclasses import dataclass

from libs.telemetry import catalogue
from libs.telemetry.catalogue import Kind, Metric
from services.registry import Service

RATE = "$__rate_interval"
_CALLS = catalogue.RPC_SERVER_DURATION.prometheus_name
_BATCHES = catalogue.WORKER_BATCH_DURATION.prometheus_name
_UNITS = {"s": "s", "By": "bytes", "1": "percentunit"}


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and the legend of its series."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph. `unit` is Grafana's name of it."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]


def methods_of(service: Service) -> str:
    """The matcher of the calls that a service answers."""
    names = "|".join(each.full_name.replace(".", "[.]") for each in service.serves)
    return f'rpc_method=~"({names})/.*"'


def calls_of(service: Service) -> tuple[str, str]:
    """The histogram of the work of a service, and the matcher of it: its calls, or the batches of a worker."""
    return (_CALLS, methods_of(service)) if service.serves else (_BATCHES, "")


def error_ratio(service: Service, window: str) -> str:
    """The part of the calls of a service that failed by its fault."""
    name, matcher = calls_of(service)
    failed = ", ".join(filter(None, (matcher, 'error_type!=""')))
    failures = f"sum(rate({name}_count{{{failed}}}[{window}])) or vector(0)"
    return f"({failures}) / sum(rate({name}_count{{{matcher}}}[{window}]))"


def golden_panels(service: Service) -> Iterator[Panel]:
    """Latency, traffic, errors and saturation of a service."""
    name, matcher = calls_of(service)
    what = "calls" if service.serves else "batches"
    by = "rpc_method" if service.serves else "handler"
    yield Panel(
        f"{service.name}: latency",
        f"Time of its {what}: half of them, and all but one in a hundred, are faster.",
        "s",
        tuple(
            Query(
                f"histogram_quantile({part}, sum by (le) (rate({name}_bucket{{{matcher}}}[{RATE}])))", legend
            )
            for part, legend in ((0.5, "p50"), (0.99, "p99"))
        ),
    )
    yield Panel(
        f"{service.name}: traffic",
        f"Its {what} a second.",
        "reqps",
        (Query(f"sum by ({by}) (rate({name}_count{{{matcher}}}[{RATE}]))", f"{{{{{by}}}}}"),),
    )
    yield Panel(
        f"{service.name}: errors",
        f"Part of its {what} that failed by its fault, and not by the caller's.",
        "percentunit",
        (Query(error_ratio(service, RATE), "errors"),),
    )
    yield Panel(
        f"{service.name}: saturation",
        "Used part of the bounds of the fullest process, of its connections to Postgres, and of a core of CPU.",
        "percentunit",
        tuple(_saturation_of(service)),
    )


def _saturation_of(service: Service) -> Iterator[Query]:
    own = f'{{job="{service.name}"}}'
    yield Query(f"max by (resource) ({catalogue.RPC_SERVER_SATURATION.prometheus_name}{own})", "{{resource}}")
    yield Query(f"max({catalogue.POSTGRES_POOL.prometheus_name}{own})", "connections")
    yield Query(f"max(rate({catalogue.PROCESS_CPU.prometheus_name}{own}[{RATE}]))", "CPU")
    if not service.serves:
        yield Query(f"max({catalogue.WORKER_SATURATION.prometheus_name}{own})", "lanes")


def panel_of(metric: Metric) -> Panel:
    """A metric by its attributes, or by process if it has none."""
    name = metric.prometheus_name
    labels = [
        attribute.replace(".", "_") for attribute in metric.attributes if attribute != "rpc.system.name"
    ]
    labels = labels or ["instance"]
    by, legend = ", ".join(labels), " ".join(f"{{{{{label}}}}}" for label in labels)
    match metric.kind:
        case Kind.HISTOGRAM:
            shown = [label for label in labels if label not in ("error_type", "rpc_response_status_code")]
            by, legend = ", ".join(shown), " ".join(f"{{{{{label}}}}}" for label in shown)
            queries = tuple(
                Query(
                    f"histogram_quantile({part}, sum by (le, {by}) (rate({name}_bucket[{RATE}])))",
                    f"{title} {legend}",
                )
                for part, title in ((0.5, "p50"), (0.99, "p99"))
            )
            return Panel(metric.name, metric.description, _UNITS[metric.unit], queries)
        case Kind.COUNTER | Kind.OBSERVED_COUNTER:
            expression, unit = f"sum by ({by}) (rate({name}[{RATE}]))", _UNITS.get(metric.unit, "short")
            unit = {"bytes": "Bps", "s": "short", "short": "cps"}.get(unit, unit)
        case Kind.GAUGE:
            expression, unit = f"max by ({by}) ({name})", _UNITS.get(metric.unit, "short")
    if metric.is_rare:
        expression += " or vector(0)"
    return Panel(metric.name, metric.description, unit, (Query(expression, legend),))
