"""The page of metrics and alerts for readers."""

from collections.abc import Iterator

from libs.telemetry import catalogue
from libs.telemetry.catalogue import Area
from services.monitoring.alerts import ALERTS, BURN_ACTION, BURN_ALERT, SEVERITIES, W
from services.monitoring.objectives import AVAILABILITY, BURNS, FAST, LATENCIES_SECONDS
from services.monitoring.rules import write_duration

_HEAD = """# Metrics and alerts

Made by `make docs` from `libs/telemetry/catalogue.py` and `services/monitoring`; a test fails when it is old. The names
are OpenTelemetry's; Prometheus has the names in the second column, a histogram with `_bucket`, `_sum` and `_count`. The
golden metrics of a service come from `rpc.server.call.duration` (latency, traffic, and errors: calls with an
`error.type`) and the saturations; of a worker, which serves no calls, from `tally.worker.batch.duration`.
"""


def metrics_page() -> str:
    """The page `docs/metrics.md`."""
    return "\n".join([_HEAD, *_metrics(), *_objectives(), *_alerts()]) + "\n"


def _metrics() -> Iterator[str]:
    for area in Area:
        yield f"## {area.value.capitalize()}\n"
        yield "| metric | in Prometheus | kind | unit | attributes | what it is |\n|---|---|---|---|---|---|"
        for metric in catalogue.ALL:
            if metric.area is area:
                attributes = ", ".join(f"`{each}`" for each in metric.attributes) or "—"
                names = f"`{metric.name}` | `{metric.prometheus_name}`"
                yield f"| {names} | {metric.kind} | {metric.unit} | {attributes} | {metric.description} |"
        yield ""


def _objectives() -> Iterator[str]:
    times = ", ".join(f"{name} {seconds:g} s" for name, seconds in LATENCIES_SECONDS.items())
    yield "## Objectives\n"
    yield f"- Of the calls of each service {AVAILABILITY:.1%} do not fail by its fault (of a worker: of its batches)."
    yield f"- Of the unary calls {FAST:.0%} are answered in time: {times}.\n"
    yield f"`{BURN_ALERT}` fires when the error budget burns too fast in both windows; {BURN_ACTION}.\n"
    yield "| times too fast | over | and over | severity |\n|---|---|---|---|"
    for burn in BURNS:
        long, short = write_duration(burn.long_seconds), write_duration(burn.short_seconds)
        yield f"| {burn.factor:g} | {long} | {short} | {burn.severity} |"
    yield ""


def _alerts() -> Iterator[str]:
    yield "## Alerts\n"
    yield "Severities: " + "; ".join(f"`{name}`: {meaning}" for name, meaning in SEVERITIES.items()) + ".\n"
    yield "| alert | severity | fires when, for how long | what to do |\n|---|---|---|---|"
    for alert in ALERTS:
        window, held = write_duration(alert.window_seconds), write_duration(alert.for_seconds)
        expression = alert.expression.replace(W, window).replace("|", "\\|")
        yield f"| `{alert.name}` | {alert.severity} | `{expression}`, {held} | {alert.action} |"
