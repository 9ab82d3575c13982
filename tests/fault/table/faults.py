"""The table: every fault, and what must hold beyond the invariants."""

from tests.fault.table.scene import Fault
from tests.fault.table.strikes import (
    clients,
    clocks,
    cuts,
    disks,
    freezes,
    kills,
    readers,
    restarts,
    rivals,
    standby,
)

SERVED_SECONDS = 2.0
"""in which the partitions of a shard that is away are served by the next"""
RECOVERED_SECONDS = 15.0
"""in which the entries that it had not applied are recovered"""

FAULTS = (
    Fault(
        "kill -9 of a counting process",
        kills.kill_shard,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
        may_fail=False,
    ),
    Fault("kill -9 of a partitioner", kills.kill_partitioner, served_within_seconds=SERVED_SECONDS),
    Fault("kill -9 of a query process", kills.kill_query, may_fail=False),
    Fault("kill -9 of Envoy", kills.kill_envoy),
    Fault("kill -9 of every service at once", kills.kill_all_services),
    Fault("Valkey killed, and empty afterwards", kills.kill_valkey, may_fail=False, may_fail_reads=False),
    Fault("kill -9 of Postgres", kills.kill_postgres, recovered_within_seconds=RECOVERED_SECONDS),
    Fault("Postgres away for ten seconds", kills.take_postgres_away),
    Fault("Postgres away, and the disk of a spool full", disks.fill_spool),
    Fault("Postgres frozen", freezes.freeze_postgres),
    Fault(
        "a shard frozen past its takeover",
        freezes.freeze_shard,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
    ),
    Fault(
        "a shard frozen inside a flush",
        freezes.freeze_shard_in_flush,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
    ),
    Fault(
        "a shard frozen with an unread answer",
        freezes.freeze_shard_before_answer,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
    ),
    Fault("connections cut in the middle of a commit", cuts.cut_commits, may_fail=False),
    Fault("two shards fed the same entries", rivals.feed_two_shards, may_fail=False, may_fail_reads=False),
    Fault("a shard's clock 25 h ahead", clocks.run_ahead, may_fail=False, may_fail_reads=False),
    Fault(
        "a long reader while partitions come and go",
        readers.hold_snapshot,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault("rolling restart of every service", restarts.restart_all, may_fail=False),
    Fault("the client killed and started again", clients.kill_client, may_fail=False, may_fail_reads=False),
)

PAIR_FAULTS = (
    Fault("a wait for the standby cancelled", standby.cancel_waits),
    Fault("the standby stopped, the primary killed, the standby promoted", standby.lose_primary),
)
