"""The one catalogue of metrics: their names, meanings and units.

To add one, add a constant here and make the instrument with the function of its kind. Names follow
OpenTelemetry (dots); units are UCUM (https://ucum.org).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation


class Kind(StrEnum):
    """How the values of a metric add up."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up-down counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, kind, unit, what it says, and for a histogram the bounds of its buckets."""

    name: str
    kind: Kind
    unit: str
    description: str
    buckets: tuple[float, ...] | None = None


SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

RPC_SERVER_DURATION = Metric(
    "tally.rpc.server.duration",
    Kind.HISTOGRAM,
    "s",
    "Time to answer a call, by service, method and status code; its count is the number of calls.",
    SECONDS,
)
RPC_SERVER_IN_FLIGHT = Metric(
    "tally.rpc.server.in_flight",
    Kind.UP_DOWN_COUNTER,
    "{call}",
    "Calls being answered now, by service and method.",
)
RPC_CLIENT_DURATION = Metric(
    "tally.rpc.client.duration",
    Kind.HISTOGRAM,
    "s",
    "Time of an outgoing call with its retries, by service, method and status code.",
    SECONDS,
)
BREAKER_TRANSITIONS = Metric(
    "tally.rpc.breaker.transitions",
    Kind.COUNTER,
    "{transition}",
    "Changes of a circuit breaker, by its name and the state that it went to.",
)
LOOP_TURNS = Metric(
    "tally.loop.turns",
    Kind.COUNTER,
    "{turn}",
    "Turns of background loops, by the loop and its outcome (done, failed).",
)
SHARDS_KNOWN = Metric("tally.shards.known", Kind.GAUGE, "{shard}", "Shards that a partitioner has found.")
SHARDS_LIVE = Metric(
    "tally.shards.live",
    Kind.GAUGE,
    "{shard}",
    "Those of them that answer its probes, and say that they serve.",
)
ADMITTED_BYTES = Metric(
    "tally.admission.bytes", Kind.GAUGE, "By", "Bytes of the requests under way in a partitioner."
)
JOURNAL_COMMIT_DURATION = Metric(
    "tally.journal.commit.duration",
    Kind.HISTOGRAM,
    "s",
    "Time of one insert into the journal; its count is the number of group commits.",
    SECONDS,
)
JOURNAL_ENTRIES = Metric(
    "tally.journal.entries",
    Kind.COUNTER,
    "{entry}",
    "Entries that were answered, by outcome: journaled, duplicate, content_mismatch and so on.",
)
FLUSH_DURATION = Metric(
    "tally.flush.duration",
    Kind.HISTOGRAM,
    "s",
    "Time of one flush; its count is the number of flushes.",
    SECONDS,
)
FLUSH_CELLS = Metric("tally.flush.cells", Kind.COUNTER, "{cell}", "Cells that flushes wrote.")
ROLLUP_RUNS = Metric(
    "tally.rollup.runs",
    Kind.GAUGE,
    "{run}",
    "Runs of the rollups, of all shards: so many a read has to visit.",
)
MERGE_CELLS = Metric(
    "tally.merge.cells", Kind.COUNTER, "{cell}", "Cells that merges read from runs of the rollups."
)
FLUSH_LAG = Metric(
    "tally.flush.lag", Kind.GAUGE, "s", "Age of the oldest entry of this shard that the rollups lack."
)
JOURNAL_WAITING = Metric(
    "tally.journal.waiting", Kind.GAUGE, "{entry}", "Entries that wait for their insert into the journal."
)
SPOOL_WRITTEN = Metric(
    "tally.spool.written", Kind.COUNTER, "{entry}", "Entries that were answered from the spool."
)
SPOOL_DRAINED = Metric(
    "tally.spool.drained",
    Kind.COUNTER,
    "{entry}",
    "Entries that left the spool, to the journal or the dead letters.",
)
SPOOL_ENTRIES = Metric("tally.spool.entries", Kind.GAUGE, "{entry}", "Entries in the spool of this shard.")
SPOOL_BYTES = Metric(
    "tally.spool.bytes", Kind.GAUGE, "By", "Size of the spool of this shard, less what is free."
)
SPOOL_AGE = Metric("tally.spool.age", Kind.GAUGE, "s", "Age of the oldest entry in the spool of this shard.")
LOGS_GIVEN_UP = Metric(
    "tally.log.given_up", Kind.COUNTER, "{log}", "Logs that a shard gave up, in doubt or closed by another."
)
LOGS_TAKEN_OVER = Metric(
    "tally.log.taken_over", Kind.COUNTER, "{log}", "Logs that were closed, applied and settled by recovery."
)
CLOCK_OFFSET = Metric(
    "tally.clock.offset",
    Kind.GAUGE,
    "s",
    "How far this machine's clock is ahead of Postgres's, at least; beyond 1 s either way nothing is ready.",
)
FLOOR_AGE = Metric(
    "tally.floor.age",
    Kind.GAUGE,
    "s",
    "Age of the floor by Postgres's clock, normally 88,200 to 89,100; below 86,400 requests are refused too early.",
)
DEAD_LETTERS_WAITING = Metric(
    "tally.dead_letters.waiting",
    Kind.GAUGE,
    "{letter}",
    "Undecided dead letters of the cluster; every shard reports the same.",
)
REPLICATION_LAG = Metric(
    "tally.replication.lag",
    Kind.GAUGE,
    "s",
    "Time since which changes of another region are missing here, by its id; of the lanes that this process holds.",
)
REPLICATION_ROWS = Metric(
    "tally.replication.rows", Kind.COUNTER, "{row}", "Rows and tombstones of other regions that were applied."
)
REPLICATION_ROWS_AGAIN = Metric(
    "tally.replication.rows_again",
    Kind.COUNTER,
    "{row}",
    "Rows of them that were here before, in the same version or a later one.",
)
REPLICATION_BYTES = Metric(
    "tally.replication.bytes",
    Kind.COUNTER,
    "By",
    "Bytes of the frames that brought them, as they were packed.",
)
REPLICATION_DIFFERENT = Metric(
    "tally.replication.different",
    Kind.COUNTER,
    "{location}",
    "Locations that a comparison found different, and not because they were late; must stay 0.",
)
CATALOG_STALENESS = Metric(
    "tally.catalog.staleness",
    Kind.GAUGE,
    "s",
    "Time since this replica of the catalog was sure of the newest rules; beyond 60 s it refuses finds.",
)
CATALOG_RESOURCES = Metric(
    "tally.catalog.resources", Kind.GAUGE, "{resource}", "Resources in the view of this replica."
)
CATALOG_PROJECTED = Metric(
    "tally.catalog.projected", Kind.GAUGE, "{change}", "The change that the projection in Valkey holds."
)

SYNC_TRIGGERS = Metric("tally.sync.triggers", Kind.COUNTER, "{run}", "Runs that were planned, by job.")
SYNC_PLANNING_DURATION = Metric(
    "tally.sync.planning.duration", Kind.HISTOGRAM, "s", "Time to plan a run and cut its slots.", SECONDS
)
SYNC_LEASES = Metric("tally.sync.leases", Kind.COUNTER, "{lease}", "Slots that were leased, by job.")
SYNC_LATENESS = Metric(
    "tally.sync.lateness",
    Kind.HISTOGRAM,
    "s",
    "How long after it was due a slot was leased for the first time, by job.",
    (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0),
)
SYNC_SLOTS = Metric(
    "tally.sync.slots", Kind.COUNTER, "{slot}", "Leases that ended, by job and what became of the slot."
)
SYNC_ITEMS = Metric("tally.sync.items", Kind.COUNTER, "{item}", "Recorded outcomes, by job and outcome.")
QUOTA_CLOSINGS = Metric(
    "tally.quota.closings",
    Kind.COUNTER,
    "{closing}",
    "Times that the other side refused for a quota, by reason.",
)
WORKER_THREADS_ABANDONED = Metric(
    "tally.worker.threads.abandoned",
    Kind.GAUGE,
    "{thread}",
    "Threads of a worker whose handler exceeded its time limit and has not returned.",
)

ALL: tuple[Metric, ...] = (
    RPC_SERVER_DURATION,
    RPC_SERVER_IN_FLIGHT,
    RPC_CLIENT_DURATION,
    BREAKER_TRANSITIONS,
    LOOP_TURNS,
    SHARDS_KNOWN,
    SHARDS_LIVE,
    ADMITTED_BYTES,
    JOURNAL_COMMIT_DURATION,
    JOURNAL_ENTRIES,
    FLUSH_DURATION,
    FLUSH_CELLS,
    ROLLUP_RUNS,
    MERGE_CELLS,
    FLUSH_LAG,
    JOURNAL_WAITING,
    SPOOL_WRITTEN,
    SPOOL_DRAINED,
    SPOOL_ENTRIES,
    SPOOL_BYTES,
    SPOOL_AGE,
    LOGS_GIVEN_UP,
    LOGS_TAKEN_OVER,
    CLOCK_OFFSET,
    FLOOR_AGE,
    DEAD_LETTERS_WAITING,
    REPLICATION_LAG,
    REPLICATION_ROWS,
    REPLICATION_ROWS_AGAIN,
    REPLICATION_BYTES,
    REPLICATION_DIFFERENT,
    CATALOG_STALENESS,
    CATALOG_RESOURCES,
    CATALOG_PROJECTED,
    SYNC_TRIGGERS,
    SYNC_PLANNING_DURATION,
    SYNC_LEASES,
    SYNC_LATENESS,
    SYNC_SLOTS,
    SYNC_ITEMS,
    QUOTA_CLOSINGS,
    WORKER_THREADS_ABANDONED,
)


def counter(meter: Meter, metric: Metric) -> metrics.Counter:
    """The instrument of a metric that only grows. Raises ValueError for a metric of another kind."""
    _check(metric, Kind.COUNTER)
    return meter.create_counter(metric.name, metric.unit, metric.description)


def up_down_counter(meter: Meter, metric: Metric) -> metrics.UpDownCounter:
    """The instrument of a metric that grows and shrinks. Raises ValueError for a metric of another kind."""
    _check(metric, Kind.UP_DOWN_COUNTER)
    return meter.create_up_down_counter(metric.name, metric.unit, metric.description)


def histogram(meter: Meter, metric: Metric) -> metrics.Histogram:
    """The instrument of a metric with a distribution. Raises ValueError for a metric of another kind."""
    _check(metric, Kind.HISTOGRAM)
    return meter.create_histogram(
        metric.name,
        metric.unit,
        metric.description,
        explicit_bucket_boundaries_advisory=metric.buckets,
    )


def observe(meter: Meter, metric: Metric, read: Callable[[], float | Sequence[Observation]]) -> None:
    """Report what `read` says at each export: one number, or one observation per set of attributes.

    `read` is called on the exporter's thread, so it only looks at what is in memory. Raises ValueError for a
    metric that is not a gauge.
    """
    _check(metric, Kind.GAUGE)

    def callback(_: CallbackOptions) -> Sequence[Observation]:
        value = read()
        return [Observation(value)] if isinstance(value, int | float) else value

    meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)


def _check(metric: Metric, kind: Kind) -> None:
    if metric.kind is not kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
