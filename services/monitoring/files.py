"""The files that are made, by their paths."""

import json
from collections.abc import Mapping
from pathlib import Path

from services.monitoring.dashboards import make_dashboards
from services.monitoring.metrics_page import metrics_page
from services.monitoring.rules import make_rules

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s" / "components" / "monitoring"


def make_files() -> Mapping[Path, str]:
    """The page, the rules and the dashboards. Rules are JSON, which is YAML too."""
    return {
        ROOT / "docs" / "metrics.md": metrics_page(),
        FOLDER / "rules.json": json.dumps(make_rules(), indent=1) + "\n",
        **{FOLDER / "dashboards" / name: text for name, text in make_dashboards().items()},
    }
