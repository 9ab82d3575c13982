"""The table: every fault, what it breaks or needs whole, and what must hold beyond the invariants."""

from tests.fault.table.scene import Fault
from tests.fault.table.strikes import (
    backfills,
    clients,
    clocks,
    cuts,
    disks,
    entries,
    freezes,
    garbage,
    kills,
    readers,
    restarts,
    rivals,
    shelves,
    standby,
    syncs,
)

SERVED_SECONDS = 2.0
"""in which the partitions of a shard that is away are served by the next"""
RECOVERED_SECONDS = 15.0
"""in which the entries that it had not applied are recovered"""

_SHARDS = frozenset(("shards",))
_PARTITIONERS = frozenset(("partitioners",))
_QUERIES = frozenset(("queries",))
_ENVOY = frozenset(("envoy",))
_CATALOGS = frozenset(("catalogs", "postgres"))
"""PutRules and puts need Postgres, too."""
_SYNC = frozenset(("sync", "postgres"))
"""Runs need Postgres for every lease and report."""
_BACKFILL = _SYNC | frozenset(("backfill",))
_SERVICES = _SHARDS | _PARTITIONERS | _QUERIES
_UNNOTICED = {"may_fail": False, "may_fail_reads": False}
"""by clients that count and read"""
_VALKEY = frozenset(("valkey",))
_POSTGRES = frozenset(("postgres",))

FAULTS = (
    Fault(
        "kill -9 of a counting process",
        kills.kill_shard,
        _SHARDS,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
        may_fail=False,
    ),
    Fault(
        "kill -9 of a partitioner",
        kills.kill_partitioner,
        _PARTITIONERS,
        served_within_seconds=SERVED_SECONDS,
    ),
    Fault("kill -9 of a query process", kills.kill_query, _QUERIES, may_fail=False),
    Fault("kill -9 of Envoy", kills.kill_envoy, _ENVOY),
    Fault("kill -9 of every service at once", kills.kill_all_services, _SERVICES | _ENVOY),
    Fault(
        "kill -9 of each catalog process",
        shelves.kill_catalog,
        _CATALOGS,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault(
        "a catalog process frozen past its staleness",
        shelves.freeze_catalog,
        _CATALOGS,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault(
        "Valkey wiped under the catalog",
        shelves.wipe_valkey,
        _CATALOGS | _VALKEY,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault("kill -9 of each scheduler in a run", syncs.kill_scheduler, _SYNC, **_UNNOTICED),
    Fault("kill -9 of a worker in a run", syncs.kill_worker, _SYNC, **_UNNOTICED),
    Fault("kill -9 of every scheduler and worker in a run", syncs.kill_all, _SYNC, **_UNNOTICED),
    Fault("kill -9 of Postgres in a run", syncs.kill_postgres, _SYNC),
    Fault("a worker frozen past its lease", syncs.freeze_worker, _SYNC, **_UNNOTICED),
    Fault("a scheduler frozen in a run", syncs.freeze_scheduler, _SYNC, **_UNNOTICED),
    Fault("kill -9 of workers in a backfill", backfills.kill_worker, _BACKFILL, **_UNNOTICED),
    Fault("kill -9 of the coordinator of a backfill", backfills.kill_coordinator, _BACKFILL, **_UNNOTICED),
    Fault("kill -9 of all processes of a backfill", backfills.kill_all, _BACKFILL, **_UNNOTICED),
    Fault("kill -9 of Postgres in a backfill", backfills.kill_postgres, _BACKFILL),
    Fault(
        "the object store unreachable in a backfill",
        backfills.take_object_store_away,
        _BACKFILL,
        **_UNNOTICED,
    ),
    Fault(
        "Valkey killed, and empty afterwards",
        kills.kill_valkey,
        _VALKEY,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault("kill -9 of Postgres", kills.kill_postgres, _POSTGRES, recovered_within_seconds=RECOVERED_SECONDS),
    Fault("Postgres away for ten seconds", kills.take_postgres_away, _POSTGRES),
    Fault("Postgres away, and the disk of a spool full", disks.fill_spool, _POSTGRES | _SHARDS),
    Fault("Postgres frozen", freezes.freeze_postgres, _POSTGRES),
    Fault(
        "a shard frozen past its takeover",
        freezes.freeze_shard,
        _SHARDS,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
    ),
    Fault(
        "a shard frozen inside a flush",
        freezes.freeze_shard_in_flush,
        _SHARDS | _POSTGRES,
        needs_proxy=True,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
    ),
    Fault(
        "a shard frozen with an unread answer",
        freezes.freeze_shard_before_answer,
        _SHARDS | _POSTGRES,
        needs_proxy=True,
        served_within_seconds=SERVED_SECONDS,
        recovered_within_seconds=RECOVERED_SECONDS,
    ),
    Fault(
        "connections cut in the middle of a commit",
        cuts.cut_commits,
        _SHARDS,
        may_fail=False,
        needs_proxy=True,
    ),
    Fault(
        "two shards fed the same entries",
        rivals.feed_two_shards,
        frozenset(),
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault("a shard's clock 25 h ahead", clocks.run_ahead, _POSTGRES, may_fail=False, may_fail_reads=False),
    Fault("a Postgres clock that jumps and comes back", clocks.jump, _POSTGRES | _SERVICES),
    Fault(
        "a long reader while partitions come and go",
        readers.hold_snapshot,
        _POSTGRES,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault(
        "an entry that takes longer than a transaction may",
        entries.send_large_entry,
        _POSTGRES,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault(
        "a shard that answers garbage",
        garbage.answer_with_garbage,
        _SHARDS,
        served_within_seconds=SERVED_SECONDS,
        may_fail=False,
        may_fail_reads=False,
    ),
    Fault("rolling restart of every service", restarts.restart_all, _SERVICES | _POSTGRES, may_fail=False),
    Fault(
        "a restart of every service while Postgres is unreachable",
        restarts.restart_without_postgres,
        _POSTGRES | _SERVICES,
    ),
    Fault(
        "the client killed and started again",
        clients.kill_client,
        frozenset(),
        may_fail=False,
        may_fail_reads=False,
    ),
)

PAIR_FAULTS = (
    Fault("a wait for the standby cancelled", standby.cancel_waits, _POSTGRES),
    Fault("a standby lost for three minutes", standby.lose_standby, _POSTGRES),
    Fault(
        "the standby stopped, the primary killed, the standby promoted in a run", standby.lose_primary, _SYNC
    ),
)
"""For a deployment on a primary and its standby, which ends with the last of them."""
