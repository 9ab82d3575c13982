"""Every alert fires in the fault that it is for, and not on a quiet day, as `promtool test rules` computes it."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from services.monitoring.alerts import BURN_ALERT
from services.monitoring.objectives import objectives
from services.monitoring.rules import make_rules, names
from tests.support.prometheus import find_program

pytestmark = pytest.mark.system

CALLS = "rpc_server_call_duration_seconds"
COUNT = f"{CALLS}_count"
READ = 'rpc_method="tally.query.v1.QueryService/GetCount", rpc_response_status_code'
FAILED = f'{COUNT}{{{READ}="UNAVAILABLE", error_type="UNAVAILABLE"}}'
FAILED_FAST = f'{CALLS}_bucket{{{READ}="UNAVAILABLE", error_type="UNAVAILABLE", le="0.2"}}'
ANSWERED = f'{COUNT}{{{READ}="OK"}}'
LATE = "tally_event_loop_delay_seconds_bucket"
TURNS = 'tally_loop_turns_total{job="counting", instance="counting-0", loop="floor", outcome'

QUIET: Mapping[str, str] = {
    ANSWERED: "0+6000x300",
    FAILED: "0+1x300",
    f'{CALLS}_bucket{{{READ}="OK", le="0.2"}}': "0+5990x300",
    f'{CALLS}_bucket{{{READ}="OK", le="+Inf"}}': "0+6000x300",
    'up{job="counting", instance="counting-0"}': "1x300",
    'tally_shards_known{instance="partitioner-0"}': "3x300",
    'tally_shards_live{instance="partitioner-0"}': "3x300",
    'tally_spool_entries{instance="counting-0"}': "0x300",
    'tally_flush_lag_seconds{instance="counting-0"}': "1x300",
    'tally_log_given_up_total{instance="counting-0"}': "0x300",
    'tally_dead_letters_waiting{instance="counting-0"}': "0x300",
    'tally_clock_offset_seconds{instance="counting-0"}': "0.01x300",
    'tally_floor_age_seconds{instance="counting-0"}': "88500x300",
    'tally_rpc_server_saturation{job="query", resource="calls"}': "0.2x300",
    f'{LATE}{{instance="query-0", le="0.5"}}': "0+120x300",
    f'{LATE}{{instance="query-0", le="1"}}': "0+120x300",
    f'{LATE}{{instance="query-0", le="+Inf"}}': "0+120x300",
    f'{TURNS}="done"}}': "0+6x300",
    f'{TURNS}="failed"}}': "0+1x300",
    'tally_catalog_staleness_seconds{instance="catalog-0"}': "0.5x300",
    'tally_replication_lag_seconds{device="1"}': "1x300",
    'tally_replication_different_total{instance="replication-0"}': "0x300",
}
FAULTS: Mapping[str, Mapping[str, str]] = {
    "TallyProcessDown": {'up{job="counting", instance="counting-0"}': "0x300"},
    "TallyShardUnreachable": {'tally_shards_live{instance="partitioner-0"}': "2x300"},
    "TallySpooling": {'tally_spool_entries{instance="counting-0"}': "12x300"},
    "TallyFlushLag": {'tally_flush_lag_seconds{instance="counting-0"}': "90x300"},
    "TallyLogsGivenUp": {'tally_log_given_up_total{instance="counting-0"}': "0+1x300"},
    "TallyDeadLetters": {'tally_dead_letters_waiting{instance="counting-0"}': "1x300"},
    "TallyClockOff": {'tally_clock_offset_seconds{instance="counting-0"}': "-1.5x300"},
    "TallyFloorTooYoung": {'tally_floor_age_seconds{instance="counting-0"}': "80000x300"},
    "TallySaturated": {'tally_rpc_server_saturation{job="query", resource="calls"}': "0.9x300"},
    "TallyEventLoopLate": {f'{LATE}{{instance="query-0", le="0.5"}}': "0+60x300"},
    "TallyLoopFailing": {f'{TURNS}="done"}}': "5x300"},
    "TallyCatalogStale": {'tally_catalog_staleness_seconds{instance="catalog-0"}': "90x300"},
    "TallyReplicationLag": {'tally_replication_lag_seconds{device="1"}': "900x300"},
    "TallyReplicationDifferent": {
        'tally_replication_different_total{instance="replication-0"}': "0+1x300",
    },
    "TallyQuotaClosed": {'tally_quota_closings_total{reason="GIVE_BACK_REASON_QUOTA_EXCEEDED"}': "0+1x300"},
}
BURNS = {
    "availability": {FAILED: "0+120x300", FAILED_FAST: "0+120x300"},
    "latency": {f'{CALLS}_bucket{{{READ}="OK", le="0.2"}}': "0+4000x300"},
}


def find_wrong(folder: Path, series: Mapping[str, str], expected: Mapping[str, list[Any]]) -> str:
    """What is other than expected of these alerts after four hours of these series, a value a minute; else nothing."""
    (folder / "rules.json").write_text(json.dumps(make_rules()))
    test = {
        "rule_files": ["rules.json"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": each, "values": values} for each, values in series.items()],
                "alert_rule_test": [
                    {"eval_time": "240m", "alertname": alert, "exp_alerts": alerts}
                    for alert, alerts in expected.items()
                ],
            }
        ],
    }
    (folder / "test.json").write_text(json.dumps(test))
    return run_promtool(folder, "test", "rules", "test.json")


def firing(folder: Path, series: Mapping[str, str]) -> set[str]:
    """The alerts that fire: promtool, which is told to expect none of any name, names them."""
    wrong = find_wrong(folder, series, {alert: [] for alert in names()})
    found = set(re.findall(r"alertname: (\w+), time", wrong))
    assert bool(found) is bool(wrong), wrong
    return found


def run_promtool(folder: Path, *arguments: str) -> str:
    """What it finds wrong; nothing if it succeeds."""
    command = [find_program("promtool"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return "" if done.returncode == 0 else done.stdout + done.stderr


def rule_of(alert: str, **labels: str) -> dict[str, Any]:
    return next(
        rule
        for group in make_rules()["groups"]
        for rule in group["rules"]
        if rule.get("alert") == alert and labels.items() <= rule["labels"].items()
    )


def test_there_is_a_fault_for_every_alert() -> None:
    assert {*FAULTS, BURN_ALERT} == set(names())
    assert {objective.name for objective in objectives()} == set(BURNS)


def test_the_rules_are_well_formed(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(make_rules()))
    assert run_promtool(tmp_path, "check", "rules", "rules.json") == ""


def test_on_a_quiet_day_no_alert_fires(tmp_path: Path) -> None:
    assert firing(tmp_path, QUIET) == set()


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_in_its_fault_and_no_other_does(tmp_path: Path, alert: str) -> None:
    assert firing(tmp_path, {**QUIET, **FAULTS[alert]}) == {alert}


@pytest.mark.parametrize("objective", BURNS)
def test_a_budget_that_burns_fast_pages_with_its_service_and_objective(
    tmp_path: Path, objective: str
) -> None:
    series = {**QUIET, **BURNS[objective]}
    expected = []
    for factor, severity in (("14.4", "page"), ("6", "page"), ("1", "ticket")):
        rule = rule_of(BURN_ALERT, burn=factor, service="query", objective=objective)
        summary = f"query misses its objective of {objective} {factor} times too often."
        expected.append(
            {
                "exp_labels": {**rule["labels"], "severity": severity},
                "exp_annotations": {**rule["annotations"], "summary": summary},
            }
        )
    assert find_wrong(tmp_path, series, {BURN_ALERT: expected}) == ""
