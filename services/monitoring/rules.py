"""Prometheus's recording and alerting rules, as its file of rules."""

from collections.abc import Iterator
from typing import Any

from services.monitoring.alerts import ALERTS, BURN_ACTION, BURN_ALERT, BURN_SUMMARY, Alert, W
from services.monitoring.objectives import BURNS, Burn, Objective, objectives, windows

_RUNBOOK = "docs/operations.md#alerts"
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def make_rules(speed: int = 1) -> dict[str, Any]:
    """The file. `speed` divides all times, for tests that cannot wait."""
    recorded = [_record(each, seconds, speed) for each in objectives() for seconds in windows()]
    burning = [_burn(each, burn, speed) for each in objectives() for burn in BURNS]
    return {
        "groups": [
            {"name": "tally-objectives", "rules": [*recorded, *burning]},
            {"name": "tally-alerts", "rules": [_alert(each, speed) for each in ALERTS]},
        ]
    }


def write_duration(seconds: int, speed: int = 1) -> str:
    """A duration as Prometheus writes it, at least four seconds when it is divided."""
    if speed > 1:
        return f"{max(4, seconds // speed)}s" if seconds else "0s"
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def record_name(seconds: int) -> str:
    """The name of the recorded ratio of a window."""
    return f"tally:misses:ratio_rate{write_duration(seconds)}"


def _record(objective: Objective, seconds: int, speed: int) -> dict[str, Any]:
    return {
        "record": record_name(seconds),
        "expr": objective.expression(write_duration(seconds, speed)),
        "labels": {"service": objective.service, "objective": objective.name},
    }


def _burn(objective: Objective, burn: Burn, speed: int) -> dict[str, Any]:
    own = f'{{service="{objective.service}", objective="{objective.name}"}}'
    most = f"{burn.factor * objective.budget:.6g}"
    parts = [f"{record_name(seconds)}{own} > {most}" for seconds in (burn.long_seconds, burn.short_seconds)]
    return {
        "alert": BURN_ALERT,
        "expr": " and ".join(parts),
        "for": write_duration(60 if burn.severity == "page" else 3_600, speed),
        "labels": {
            "severity": burn.severity,
            "burn": f"{burn.factor:g}",
            "service": objective.service,
            "objective": objective.name,
        },
        "annotations": _annotations(BURN_SUMMARY.replace("FACTOR", f"{burn.factor:g}"), BURN_ACTION),
    }


def _alert(alert: Alert, speed: int) -> dict[str, Any]:
    window = write_duration(alert.window_seconds, speed)
    return {
        "alert": alert.name,
        "expr": alert.expression.replace(W, window),
        "for": write_duration(alert.for_seconds, speed),
        "labels": {"severity": alert.severity},
        "annotations": _annotations(alert.summary, alert.action),
    }


def _annotations(summary: str, action: str) -> dict[str, str]:
    return {"summary": summary, "action": action, "runbook": _RUNBOOK}


def names() -> Iterator[str]:
    """The name of every alert."""
    yield BURN_ALERT
    yield from (alert.name for alert in ALERTS)
