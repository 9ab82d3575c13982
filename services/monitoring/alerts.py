"""The alerts: what each is about, its expression, and how long it must hold."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.telemetry import catalogue as c
from services.monitoring.objectives import HOUR, MINUTE
from services.registry import SERVICES

_LATE = c.EVENT_LOOP_DELAY.prometheus_name
_JOBS = "|".join([*(service.name for service in SERVICES), "all"])
W = "WINDOW"
"""in an expression: its window"""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. The expression may have a window, which is scaled with the times of all rules."""

    name: str
    severity: str
    expression: str
    for_seconds: int
    summary: str
    action: str
    window_seconds: int = 0


def _turns(outcome: str) -> str:
    name = c.LOOP_TURNS.prometheus_name
    return f'sum by (job, instance, loop) (increase({name}{{outcome="{outcome}"}}[{W}]))'


ALERTS = (
    Alert(
        "TallyProcessDown",
        "page",
        f'up{{job=~"{_JOBS}"}} == 0',
        MINUTE,
        "{{ $labels.instance }} does not answer Prometheus.",
        "look at its log; other processes of its service take its calls",
    ),
    Alert(
        "TallyShardUnreachable",
        "page",
        f"{c.SHARDS_LIVE.prometheus_name} < {c.SHARDS_KNOWN.prometheus_name}",
        MINUTE,
        "{{ $labels.instance }} does not reach every shard.",
        "see which with `tally status`; the other shards take its partitions",
    ),
    Alert(
        "TallySpooling",
        "page",
        f"sum({c.SPOOL_ENTRIES.prometheus_name}) > 0",
        MINUTE,
        "Shards write to their spools: entries are on one disk each, and not in Postgres.",
        "restore Postgres; the spools are drained by themselves",
    ),
    Alert(
        "TallyFlushLag",
        "page",
        f"max by (instance) ({c.FLUSH_LAG.prometheus_name}) > 60",
        2 * MINUTE,
        "The rollups lack entries of {{ $labels.instance }} that are older than a minute.",
        "look at its log for refused flushes, and at the load of Postgres",
    ),
    Alert(
        "TallyLogsGivenUp",
        "ticket",
        f"sum(increase({c.LOGS_GIVEN_UP.prometheus_name}[{W}])) > 3",
        0,
        "Shards give up their journal logs again and again.",
        "look for `log given up` in their logs: connections to Postgres are lost, or commits take too long",
        10 * MINUTE,
    ),
    Alert(
        "TallyDeadLetters",
        "ticket",
        f"max({c.DEAD_LETTERS_WAITING.prometheus_name}) > 0",
        MINUTE,
        "Dead letters wait for a decision.",
        "`tally dead-letters list`",
    ),
    Alert(
        "TallyClockOff",
        "page",
        f"max by (instance) (abs({c.CLOCK_OFFSET.prometheus_name})) > 1",
        MINUTE,
        "The clock of {{ $labels.instance }} and Postgres's differ by more than a second; it is not ready.",
        "correct the clock that is wrong",
    ),
    Alert(
        "TallyFloorTooYoung",
        "page",
        f"min({c.FLOOR_AGE.prometheus_name}) < 86400",
        MINUTE,
        "The floor is younger than a day: requests are refused too early.",
        "correct the clocks, then `tally floor lower`",
    ),
    Alert(
        "TallySaturated",
        "ticket",
        f"max by (job, resource) ({c.RPC_SERVER_SATURATION.prometheus_name}) > 0.8",
        5 * MINUTE,
        "A process of {{ $labels.job }} has nearly as many {{ $labels.resource }} as it accepts.",
        "add processes, or find the callers",
    ),
    Alert(
        "TallyEventLoopLate",
        "ticket",
        f"histogram_quantile(0.9, sum by (le, instance) (rate({_LATE}_bucket[{W}]))) > 0.5",
        5 * MINUTE,
        "The event loop of {{ $labels.instance }} is late by more than half a second.",
        "it lacks CPU: add processes, or raise its limit",
        5 * MINUTE,
    ),
    Alert(
        "TallyLoopFailing",
        "ticket",
        f"{_turns('failed')} > 0 unless {_turns('done')} > 0",
        0,
        "The background loop `{{ $labels.loop }}` of {{ $labels.instance }} fails at each turn.",
        "its log has the error",
        10 * MINUTE,
    ),
    Alert(
        "TallyCatalogStale",
        "page",
        f"max by (instance) ({c.CATALOG_STALENESS.prometheus_name}) > 60",
        MINUTE,
        "{{ $labels.instance }} has no news of the rights and refuses finds.",
        "look at its connection to Postgres",
    ),
    Alert(
        "TallyReplicationLag",
        "ticket",
        f"max by (device) ({c.REPLICATION_LAG.prometheus_name}) > 300",
        5 * MINUTE,
        "Changes of the region {{ $labels.device }} are missing for more than five minutes.",
        "`tally replication status` names the reason",
    ),
    Alert(
        "TallyReplicationDifferent",
        "page",
        f"sum(increase({c.REPLICATION_DIFFERENT.prometheus_name}[{W}])) > 0",
        0,
        "A comparison of two regions found different locations.",
        "`tally replication verify`",
        HOUR,
    ),
    Alert(
        "TallyQuotaClosed",
        "ticket",
        f"sum by (reason) (increase({c.QUOTA_CLOSINGS.prometheus_name}[{W}])) > 0",
        0,
        "An api refused a call for a quota ({{ $labels.reason }}).",
        "`tally quota list`: other users of the key, or a limit that is set too high",
        HOUR,
    ),
)
BURN_ALERT = "TallyErrorBudgetBurns"
BURN_SUMMARY = "{{ $labels.service }} misses its objective of {{ $labels.objective }} FACTOR times too often."
BURN_ACTION = "the dashboard of the services shows since when, and which calls"
SEVERITIES: Mapping[str, str] = {
    "page": "needs action now",
    "ticket": "needs action this week",
}
