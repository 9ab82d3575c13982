"""What a run leaves: JSON, tables, and a plot."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtests.bench import plot, report
from loadtests.bench.figures import Ratio, Result, Round, compute_ratios, judge_targets

MACHINE = {
    "cores": 2,
    "processor": "some",
    "memory_bytes": 8 << 30,
    "python": "3.11.7",
    "grpcio": "1.85.1",
    "postgres": "postgres 18",
    "valkey": "valkey 9",
}


def make_result(name: str, fault: str | None = None) -> Result:
    result = Result(name, 1_000, "zipf", ("windows",) if "valkey" in name else (), fault)
    result.rounds = [Round(1_000_000, 1_000, seconds, 5.0, 3.0, 1.0) for seconds in (2.0, 4.0)]
    result.latencies_s = [0.003] * 100
    result.memory_bytes, result.disk_bytes_per_million = 50_000_000, 80e6
    return result


@pytest.fixture
def document() -> dict[str, Any]:
    results = {
        name: make_result(name, fault)
        for name, fault in (
            ("tally-columns-1000", None),
            ("valkey-lua-1000", None),
            ("valkey-lua-door-1000", "not exact: one is missing"),
        )
    }
    details = compute_ratios(
        results, [Ratio("columns_1000_vs_valkey_lua", "tally-columns-1000", "valkey-lua-1000", 1.1)]
    )
    return {
        "seconds": 60.0,
        "machine": MACHINE,
        "ratios": {name: each["median"] for name, each in details.items()},
        "ratio_details": details,
        "targets": judge_targets(results, details),
        "results": [report.to_json(each) for each in results.values()],
    }


def test_an_exact_result_has_all_its_figures() -> None:
    told = report.to_json(make_result("tally-columns-1000"))
    assert told["is_exact"] is True
    assert told["events_per_s"] == 375_000
    assert told["counted_per_s"] == 200_000
    assert told["rounds_events_per_s"] == [500_000, 250_000]
    assert told["server_cpu_s_per_million"] == 3.0
    assert told["half_load_latency_ms"] == {"samples": 100, "p50": 3.0, "p99": 3.0, "p99.9": None}


def test_a_result_that_is_not_exact_has_a_reason_and_no_figure() -> None:
    told = report.to_json(make_result("valkey-lua-1000", fault="one is missing"))
    assert told == {
        "name": "valkey-lua-1000",
        "request_events": 1_000,
        "mix": "zipf",
        "lacks": ["windows"],
        "is_exact": False,
        "fault": "one is missing",
    }


def test_the_tables_show_figures_targets_faults_and_what_is_lacking(document: dict[str, Any]) -> None:
    shown = io.StringIO()
    report.show(Console(file=shown, width=300), document)
    text = shown.getvalue()
    assert "375,000" in text
    assert "valkey-lua-door-1000 has no figure: not exact: one is missing" in text
    assert "columns_1000_vs_valkey_lua" in text
    assert "missed" in text
    assert "valkey-lua does without windows." in text


def test_the_figures_are_kept_as_json(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "results" / "bench.json"
    report.write_json(path, document)
    assert json.loads(path.read_text())["ratios"]["columns_1000_vs_valkey_lua"] == 1.0
    assert [each.name for each in path.parent.iterdir()] == ["bench.json"]


def test_the_plot_is_a_picture_of_the_exact_results(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "docs" / "bench.png"
    assert plot.draw(document["results"], MACHINE, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not plot.draw(document["results"][2:], MACHINE, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
