"""What a run of the load test prints."""

from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.ledger import Verdict

_SHOWN = 10


def print_calls(stats: Any) -> None:
    """Print a table of the calls (locust's RequestStats)."""
    table = Table(title="Calls (latencies in ms)")
    table.add_column("rpc")
    for heading in ("calls", "failed", "calls/s", "p50", "p95", "p99"):
        table.add_column(heading, justify="right")
    for entry in sorted(stats.entries.values(), key=lambda entry: str(entry.name)):
        percentiles = [f"{entry.get_response_time_percentile(share):g}" for share in (0.5, 0.95, 0.99)]
        table.add_row(
            entry.name,
            f"{entry.num_requests:,}",
            f"{entry.num_failures:,}",
            f"{entry.total_rps:,.1f}",
            *percentiles,
        )
    Console(highlight=False, soft_wrap=True).print(table)


def print_report(stats: Any, verdict: Verdict) -> None:
    """Print a table of the calls (locust's RequestStats), the sums and the verdict."""
    print_calls(stats)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"events sent          {verdict.sent:>10,}")
    console.print(f"events acknowledged  {verdict.acknowledged:>10,}")
    console.print(f"events counted       {verdict.counted:>10,}")
    console.print(f"outcome unknown      {verdict.unknown:>10,}")
    for sentence in verdict.wrong[:_SHOWN]:
        console.print(f"wrong: {sentence}")
    if len(verdict.wrong) > _SHOWN:
        console.print(f"… and {len(verdict.wrong) - _SHOWN:,} more")
    console.print(f"verdict: {_sum_up(verdict)}")


def _sum_up(verdict: Verdict) -> str:
    if verdict.wrong:
        return "WRONG"
    if verdict.unknown:
        return "right: all that was acknowledged is counted, and nothing that was not sent"
    return "exact: counted = acknowledged"
