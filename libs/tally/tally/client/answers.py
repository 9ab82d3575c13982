"""The results of calls. Counts are exact; every time is a timezone-aware datetime in UTC."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import grpc

from tally.client._checks.times import from_timestamp
from tally.client.errors import OutcomeUnknown
from tally.common.v1 import common_pb2
from tally.ingest.v1 import ingest_pb2
from tally.query.v1 import query_pb2

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Durability(StrEnum):
    """The guarantee of an acknowledgement."""

    UNSPECIFIED = "unspecified"
    JOURNALED = "journaled"
    SPOOLED = "spooled"


_DURABILITIES = {
    common_pb2.DURABILITY_JOURNALED: Durability.JOURNALED,
    common_pb2.DURABILITY_SPOOLED: Durability.SPOOLED,
}


@dataclass(frozen=True, slots=True)
class Receipt:
    """Says that a request is durable.

    `accepted_count`: the events that this attempt counted. `duplicate_count`: those that were durable
    already. Together they are the events of the request.
    """

    request_id: str
    accepted_count: int
    duplicate_count: int
    durability: Durability

    @classmethod
    def from_message(cls, message: ingest_pb2.Receipt) -> "Receipt":
        return cls(
            request_id=message.request_id,
            accepted_count=message.accepted_count,
            duplicate_count=message.duplicate_count,
            durability=_DURABILITIES.get(message.durability, Durability.UNSPECIFIED),
        )

    def of_request(self, request_id: str, event_count: int) -> "Receipt":
        """Itself, if it is that of this request, all of it. Raises OutcomeUnknown.

        An answer without a receipt reads as an empty one.
        """
        answered = self.accepted_count + self.duplicate_count
        is_its_id = not request_id or self.request_id == request_id  # without one the service makes it
        if is_its_id and answered == event_count:
            return self
        raise OutcomeUnknown.of(
            f"The answer is no receipt of this request: it is for {answered:,} events under the id "
            f"{self.request_id!r}, and not for {event_count:,} under {request_id!r}.",
            reason="NO_RECEIPT",
            request_ids=(request_id,),
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Says why a batch of a stream was not counted by this attempt.

    `code`: the name of the gRPC status that the same batch would get alone. `reason`: a stable word.
    `server_time`: the service's, when a time was out of range. `retry_after_s`: the delay that an overloaded
    service asks for.
    """

    request_id: str
    code: str
    reason: str
    message: str
    server_time: datetime | None = None
    retry_after_s: float | None = None

    @classmethod
    def from_message(cls, message: ingest_pb2.Refusal) -> "Refusal":
        return cls(
            request_id=message.request_id,
            code=_CODES.get(message.code, str(message.code)),
            reason=message.reason,
            message=message.message,
            server_time=from_timestamp(message.server_time) if message.HasField("server_time") else None,
            retry_after_s=message.retry_delay.ToNanoseconds() / 1e9
            if message.HasField("retry_delay")
            else None,
        )


@dataclass(frozen=True, slots=True)
class Count:
    """A count of events. Every event journaled before `as_of` is in it."""

    count: int
    as_of: datetime

    @classmethod
    def from_message(cls, message: query_pb2.GetCountResponse | query_pb2.GetViewsCountResponse) -> "Count":
        return cls(message.count, from_timestamp(message.as_of))


@dataclass(frozen=True, slots=True)
class Stats:
    """An aggregate over `count` events. `value` is None when no event in the range carries one."""

    value: float | None
    count: int
    as_of: datetime

    @classmethod
    def from_message(cls, message: query_pb2.GetStatsResponse) -> "Stats":
        value = message.value if message.HasField("value") else None
        return cls(value, message.count, from_timestamp(message.as_of))


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster a service belongs to. `epoch`: raised when the cluster is restored from a backup."""

    cluster_id: str
    epoch: int
    partition_count: int

    @classmethod
    def from_message(cls, message: common_pb2.ClusterIdentity) -> "Cluster":
        return cls(message.cluster_id, message.epoch, message.partition_count)

    def to_message(self) -> common_pb2.ClusterIdentity:
        """The message in calls to a shard."""
        return common_pb2.ClusterIdentity(
            cluster_id=self.cluster_id, epoch=self.epoch, partition_count=self.partition_count
        )

    def __str__(self) -> str:
        return f"cluster {self.cluster_id} (epoch {self.epoch}, {self.partition_count} partitions)"


@dataclass(frozen=True, slots=True)
class ShardPartitions:
    """One shard, where it is reached (host:port or unix:path), and the partitions that it leads, ascending."""

    address: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PartitionMap:
    """Which shard leads which partitions, as the partitioner that was asked sees it.

    `cluster`: the partitioner's; None from a service that is older than this client.
    """

    partition_count: int
    version: str
    shards: tuple[ShardPartitions, ...]
    cluster: Cluster | None = None

    @classmethod
    def from_message(cls, message: ingest_pb2.GetPartitionMapResponse) -> "PartitionMap":
        shards = tuple(ShardPartitions(shard.address, tuple(shard.partitions)) for shard in message.shards)
        cluster = Cluster.from_message(message.cluster) if message.HasField("cluster") else None
        return cls(message.partition_count, message.version, shards, cluster)


@dataclass(frozen=True, slots=True)
class Log:
    """One life of a shard that is not settled.

    `state`: `open` or `closed`. `applied_seq` and `last_seq`: the entries that the rollups contain, and the
    last in the journal. `lag_s`: seconds since the oldest entry that the rollups do not contain.
    """

    log_id: int
    shard: str
    state: str
    open_time: datetime
    applied_seq: int
    last_seq: int
    lag_s: float

    @classmethod
    def from_message(cls, message: query_pb2.Log) -> "Log":
        return cls(
            log_id=message.log_id,
            shard=message.shard,
            state=message.state,
            open_time=from_timestamp(message.open_time),
            applied_seq=message.applied_seq,
            last_seq=message.last_seq,
            lag_s=message.lag_seconds,
        )


@dataclass(frozen=True, slots=True)
class Grain:
    """The cells of one length of time: `minute`, `hour`, `day` or `total`.

    `runs`: so many a read may have to visit. `byte_count`: on the disk of Postgres, with indexes.
    """

    name: str
    generations: int
    runs: int
    cells: int
    events: int
    byte_count: int


@dataclass(frozen=True, slots=True)
class Grains:
    """What the rollups hold. `unrolled_generations` are sealed and not rolled up; the oldest since `unrolled_s`."""

    grains: tuple[Grain, ...]
    unrolled_generations: int
    unrolled_s: float

    @classmethod
    def from_message(cls, message: query_pb2.ListGrainsResponse) -> "Grains":
        return cls(
            tuple(
                Grain(
                    name=grain.name,
                    generations=grain.generation_count,
                    runs=grain.run_count,
                    cells=grain.cell_count,
                    events=grain.event_count,
                    byte_count=grain.byte_count,
                )
                for grain in message.grains
            ),
            message.unrolled_generation_count,
            message.unrolled_seconds,
        )


@dataclass(frozen=True, slots=True)
class Audit:
    """The journal against the rollups, in one snapshot: `discrepancy_events` must be 0.

    `dead_events`: those of the journal that are set aside as dead letters. `replayed_events`: those of dead letters
    that were never in the journal, and were counted by a replay.
    """

    journaled_events: int
    counted_events: int
    dead_events: int
    discrepancy_events: int
    replayed_events: int = 0

    @classmethod
    def from_message(cls, message: query_pb2.AuditResponse) -> "Audit":
        return cls(
            journaled_events=message.journaled_events,
            counted_events=message.counted_events,
            dead_events=message.dead_events,
            discrepancy_events=message.discrepancy_events,
            replayed_events=message.replayed_events,
        )
