"""The one catalogue of metrics: their names, meanings, units and attributes.

To add one, add a constant here and make the instrument with the function of its kind. Names follow OpenTelemetry
(dots), units are UCUM (https://ucum.org). `rpc.…` and `process.…` are names of OpenTelemetry's semantic conventions
(https://opentelemetry.io/docs/specs/semconv/). docs/metrics.md and the dashboards are made from this list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation


class Kind(StrEnum):
    """How the values of a metric add up."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    OBSERVED_COUNTER = "observed counter"


class Area(StrEnum):
    """What a metric is about; each area has a dashboard."""

    CALLS = "calls"
    PROCESSES = "processes"
    COUNTING = "counting"
    READING = "reading"
    SCHEDULER = "scheduler"
    CATALOG = "catalog"
    REPLICATION = "replication"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `buckets` are the bounds of those of a histogram."""

    name: str
    kind: Kind
    unit: str
    description: str
    buckets: tuple[float, ...] | None = None
    area: Area = Area.COUNTING
    attributes: tuple[str, ...] = ()
    is_rare: bool = False
    """whether a healthy system may have no series of it"""

    @property
    def prometheus_name(self) -> str:
        """Its name at the endpoint for Prometheus; of a histogram that before `_bucket`, `_sum` and `_count`."""
        name = self.name.replace(".", "_")
        suffix = _SUFFIXES.get(self.unit, "")
        if not name.endswith(suffix):
            name += suffix
        return f"{name}_total" if self.kind in (Kind.COUNTER, Kind.OBSERVED_COUNTER) else name


_SUFFIXES = {"s": "_seconds", "By": "_bytes"}


SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

RPC_SERVER_DURATION = Metric(
    "rpc.server.call.duration",
    Kind.HISTOGRAM,
    "s",
    "Time to answer a call; its count is the number of calls. Calls with an `error.type` failed by the server's fault.",
    SECONDS,
    area=Area.CALLS,
    attributes=("rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"),
)
RPC_SERVER_IN_FLIGHT = Metric(
    "tally.rpc.server.in_flight",
    Kind.GAUGE,
    "{call}",
    "Calls being answered now.",
    area=Area.CALLS,
    attributes=("rpc.system.name", "rpc.method"),
)
RPC_CLIENT_DURATION = Metric(
    "rpc.client.call.duration",
    Kind.HISTOGRAM,
    "s",
    "Time of an outgoing call with its retries; every status but OK is an `error.type`.",
    SECONDS,
    area=Area.CALLS,
    attributes=("rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"),
)
BREAKER_TRANSITIONS = Metric(
    "tally.rpc.breaker.transitions",
    Kind.COUNTER,
    "{transition}",
    "Changes of a circuit breaker, by its name and the state that it went to.",
    area=Area.CALLS,
    attributes=("breaker", "state"),
    is_rare=True,
)
LOOP_TURNS = Metric(
    "tally.loop.turns",
    Kind.COUNTER,
    "{turn}",
    "Turns of background loops, by the loop and its outcome (done, failed).",
    area=Area.PROCESSES,
    attributes=("loop", "outcome"),
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
    Kind.OBSERVED_COUNTER,
    "{entry}",
    "Entries that were answered, by outcome: journaled, duplicate, content_mismatch and so on.",
    attributes=("outcome",),
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
    area=Area.PROCESSES,
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
    area=Area.REPLICATION,
    attributes=("device",),
    is_rare=True,
)
REPLICATION_ROWS = Metric(
    "tally.replication.rows",
    Kind.COUNTER,
    "{row}",
    "Rows and tombstones of other regions that were applied.",
    area=Area.REPLICATION,
)
REPLICATION_ROWS_AGAIN = Metric(
    "tally.replication.rows_again",
    Kind.COUNTER,
    "{row}",
    "Rows of them that were here before, in the same version or a later one.",
    area=Area.REPLICATION,
)
REPLICATION_BYTES = Metric(
    "tally.replication.bytes",
    Kind.COUNTER,
    "By",
    "Bytes of the frames that brought them, as they were packed.",
    area=Area.REPLICATION,
)
REPLICATION_DIFFERENT = Metric(
    "tally.replication.different",
    Kind.COUNTER,
    "{location}",
    "Locations that a comparison found different, and not because they were late; must stay 0.",
    area=Area.REPLICATION,
)
CATALOG_STALENESS = Metric(
    "tally.catalog.staleness",
    Kind.GAUGE,
    "s",
    "Time since this replica of the catalog was sure of the newest rules; beyond 60 s it refuses finds.",
    area=Area.CATALOG,
)
CATALOG_RESOURCES = Metric(
    "tally.catalog.resources",
    Kind.GAUGE,
    "{resource}",
    "Resources in the view of this replica.",
    area=Area.CATALOG,
)
CATALOG_PROJECTED = Metric(
    "tally.catalog.projected",
    Kind.GAUGE,
    "{change}",
    "The change that the projection in Valkey holds.",
    area=Area.CATALOG,
)

SYNC_TRIGGERS = Metric(
    "tally.sync.triggers",
    Kind.COUNTER,
    "{run}",
    "Runs that were planned, by job.",
    area=Area.SCHEDULER,
    attributes=("sync.job",),
)
SYNC_RUNS = Metric(
    "tally.sync.runs",
    Kind.COUNTER,
    "{run}",
    "Runs that ended or were skipped, by job, state and reason.",
    area=Area.SCHEDULER,
    attributes=("sync.job", "state", "reason"),
)
SYNC_PLANNING_DURATION = Metric(
    "tally.sync.planning.duration",
    Kind.HISTOGRAM,
    "s",
    "Time to plan a run and cut its slots.",
    SECONDS,
    area=Area.SCHEDULER,
    attributes=("sync.job",),
)
SYNC_LEASES = Metric(
    "tally.sync.leases",
    Kind.COUNTER,
    "{lease}",
    "Slots that were leased, by job.",
    area=Area.SCHEDULER,
    attributes=("sync.job",),
)
SYNC_LATENESS = Metric(
    "tally.sync.lateness",
    Kind.HISTOGRAM,
    "s",
    "How long after it was due a slot was leased for the first time, by job.",
    (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0),
    area=Area.SCHEDULER,
    attributes=("sync.job",),
)
SYNC_SLOTS = Metric(
    "tally.sync.slots",
    Kind.COUNTER,
    "{slot}",
    "Leases that ended, by job and what became of the slot.",
    area=Area.SCHEDULER,
    attributes=("sync.job", "became"),
)
SYNC_ITEMS = Metric(
    "tally.sync.items",
    Kind.COUNTER,
    "{item}",
    "Recorded outcomes, by job and outcome.",
    area=Area.SCHEDULER,
    attributes=("sync.job", "outcome"),
)
QUOTA_CLOSINGS = Metric(
    "tally.quota.closings",
    Kind.COUNTER,
    "{closing}",
    "Times that the other side refused for a quota, by reason.",
    area=Area.SCHEDULER,
    is_rare=True,
    attributes=("reason",),
)
WORKER_THREADS_ABANDONED = Metric(
    "tally.worker.threads.abandoned",
    Kind.GAUGE,
    "{thread}",
    "Threads of a worker whose handler exceeded its time limit and has not returned.",
    area=Area.SCHEDULER,
)

RPC_SERVER_SATURATION = Metric(
    "tally.rpc.server.saturation",
    Kind.GAUGE,
    "1",
    "Used part of the bounds of a server: `calls` and `streams` at once; beyond 1 calls are refused.",
    area=Area.CALLS,
    attributes=("resource",),
)
EVENT_LOOP_DELAY = Metric(
    "tally.event_loop.delay",
    Kind.HISTOGRAM,
    "s",
    "How late the event loop runs what is due, measured twice a second; it grows when the process lacks CPU.",
    SECONDS,
    area=Area.PROCESSES,
)
PROCESS_CPU = Metric(
    "process.cpu.time",
    Kind.OBSERVED_COUNTER,
    "s",
    "CPU time of the process; its rate is the number of cores in use.",
    area=Area.PROCESSES,
)
PROCESS_MEMORY = Metric(
    "process.memory.usage", Kind.GAUGE, "By", "Resident memory of the process.", area=Area.PROCESSES
)
PROCESS_FILES = Metric(
    "process.unix.file_descriptor.count",
    Kind.GAUGE,
    "{file_descriptor}",
    "Open file descriptors of the process.",
    area=Area.PROCESSES,
)
POSTGRES_POOL = Metric(
    "tally.postgres.pool.saturation",
    Kind.GAUGE,
    "1",
    "Part of the connections for reads and upkeep that are in use.",
    area=Area.PROCESSES,
)
READS = Metric(
    "tally.query.reads",
    Kind.COUNTER,
    "{read}",
    "Reads by their source: valkey, rollups (Postgres), or journal (strong reads: rollups and journal).",
    area=Area.READING,
    attributes=("source",),
)
SYNC_BINS = Metric(
    "tally.sync.bins",
    Kind.COUNTER,
    "{bin}",
    "Bins that became due with the runs that were planned.",
    area=Area.SCHEDULER,
    attributes=("sync.job",),
)
SYNC_MEMBERS = Metric(
    "tally.sync.members",
    Kind.COUNTER,
    "{member}",
    "Members in the slots of the runs that were planned.",
    area=Area.SCHEDULER,
    attributes=("sync.job",),
)
QUOTA_UNITS = Metric(
    "tally.quota.units",
    Kind.COUNTER,
    "{unit}",
    "Units that were paid from a quota.",
    area=Area.SCHEDULER,
    attributes=("quota",),
)
WORKER_BATCH_DURATION = Metric(
    "tally.worker.batch.duration",
    Kind.HISTOGRAM,
    "s",
    "Time of a handler for a batch; its count is the number of batches, and `error.type` says why one failed.",
    SECONDS,
    area=Area.SCHEDULER,
    attributes=("handler", "error.type"),
)
WORKER_SATURATION = Metric(
    "tally.worker.saturation",
    Kind.GAUGE,
    "1",
    "Part of the lanes of a worker that hold a slot.",
    area=Area.SCHEDULER,
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
    SYNC_RUNS,
    SYNC_PLANNING_DURATION,
    SYNC_LEASES,
    SYNC_LATENESS,
    SYNC_SLOTS,
    SYNC_ITEMS,
    QUOTA_CLOSINGS,
    WORKER_THREADS_ABANDONED,
    RPC_SERVER_SATURATION,
    EVENT_LOOP_DELAY,
    PROCESS_CPU,
    PROCESS_MEMORY,
    PROCESS_FILES,
    POSTGRES_POOL,
    READS,
    SYNC_BINS,
    SYNC_MEMBERS,
    QUOTA_UNITS,
    WORKER_BATCH_DURATION,
    WORKER_SATURATION,
)


def counter(meter: Meter, metric: Metric) -> metrics.Counter:
    """The instrument of a metric that only grows. Raises ValueError for a metric of another kind."""
    _check(metric, Kind.COUNTER)
    made = meter.create_counter(metric.name, metric.unit, metric.description)
    if not metric.attributes:
        made.add(0)  # a counter that is missing until it counts has no rate when it begins
    return made


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
    metric that is neither a gauge nor an observed counter.
    """

    def callback(_: CallbackOptions) -> Sequence[Observation]:
        value = read()
        return [Observation(value)] if isinstance(value, int | float) else value

    if metric.kind is Kind.OBSERVED_COUNTER:
        meter.create_observable_counter(metric.name, [callback], metric.unit, metric.description)
        return
    _check(metric, Kind.GAUGE)
    meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)


def _check(metric: Metric, kind: Kind) -> None:
    if metric.kind is not kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
