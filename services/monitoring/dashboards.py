"""Grafana dashboards: the golden metrics of every service, and one for each area of the catalogue."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from libs.telemetry import catalogue
from libs.telemetry.catalogue import Area
from services.monitoring.expressions import Panel, golden_panels, panel_of
from services.registry import SERVICES

_COLUMNS = 24
_HEIGHT = 8
_SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def make_dashboards() -> Mapping[str, str]:
    """The files, by name."""
    services = [panel for service in reversed(SERVICES) for panel in golden_panels(service)]
    dashboards = {"tally-services": _dashboard("services", services, 4)}
    for area in Area:
        panels = [panel_of(metric) for metric in catalogue.ALL if metric.area is area]
        dashboards[f"tally-{area}"] = _dashboard(area, panels, 3)
    return {f"{name}.json": json.dumps(made, indent=1) + "\n" for name, made in dashboards.items()}


def _dashboard(name: str, panels: Iterable[Panel], in_a_row: int) -> dict[str, Any]:
    return {
        "uid": f"tally-{name}",
        "title": f"Tally: {name}",
        "description": "Made by `make docs` from the catalogue of metrics and the table of services.",
        "tags": ["tally"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "graphTooltip": 1,
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(panel, number, in_a_row) for number, panel in enumerate(panels)],
    }


def _panel(panel: Panel, number: int, in_a_row: int) -> dict[str, Any]:
    width = _COLUMNS // in_a_row
    row, column = divmod(number, in_a_row)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"x": column * width, "y": row * _HEIGHT, "w": width, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0 if panel.unit != "s" else None},
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for index, query in enumerate(panel.queries)
        ],
    }
