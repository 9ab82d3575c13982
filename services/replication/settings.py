"""Settings of the replication service: TALLY_REPLICATION__…"""

from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

from libs.rpc import ports
from libs.rpc.channel import ChannelSettings


class StrategySettings(BaseModel, frozen=True, extra="forbid"):
    """From how many changed rows of a location on they travel in which way."""

    batch_from_rows: int = Field(
        100, ge=1, description="changed rows of a location from which on they are batched"
    )
    notify_from_rows: int = Field(
        100_000,
        ge=2,
        description="changed rows of a location from which on peers are notified, and decide themselves",
    )

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if self.batch_from_rows >= self.notify_from_rows:
            raise ValueError("batch_from_rows must be less than notify_from_rows")
        return self


class SenderSettings(BaseModel, frozen=True, extra="forbid"):
    """How rows leave."""

    batch_size: int = Field(1_000, ge=1, le=10_000, description="rows in a batch")
    poll_seconds: float = Field(
        1.0, gt=0, le=60, description="how often a sender looks for changes by itself"
    )
    gather_seconds: float = Field(
        0.1, ge=0, le=10, description="how long changes are gathered after the first one"
    )
    pause_seconds: float = Field(
        0.0, ge=0, le=10, description="pause between two batches, or two chunks of a snapshot"
    )
    idle_pass_seconds: float = Field(
        5.0, gt=0, le=600, description="how often a peer is told that nothing has changed"
    )
    gzip_level: int = Field(1, ge=1, le=9, description="level of compression of batches and snapshots")


class ReceiverSettings(BaseModel, frozen=True, extra="forbid"):
    """How rows arrive."""

    window_frames: int = Field(
        8, ge=1, le=64, description="frames that may be under way without an acknowledgement"
    )
    lease_seconds: float = Field(
        10.0, ge=1, le=600, description="how long a replica holds a lane without renewing it"
    )
    retry_seconds: float = Field(1.0, gt=0, le=60, description="wait after a lane has broken")
    load_jobs: int = Field(2, ge=1, le=64, description="locations of one region that load at once")


class SnapshotSettings(BaseModel, frozen=True, extra="forbid"):
    """Snapshots of a device."""

    chunk_bytes: int = Field(
        1024 * 1024, ge=4096, le=8 * 1024 * 1024, description="bytes of a chunk, unpacked"
    )
    fresh_seconds: float = Field(300.0, ge=0, description="age up to which an export serves further peers")
    keep_seconds: float = Field(3600.0, gt=0, description="age at which an export is removed")
    lock_timeout_seconds: float = Field(
        2.0,
        gt=0,
        le=60,
        description="how long making an import visible waits for readers before it tries again",
    )

    @model_validator(mode="after")
    def _keep_longer(self) -> Self:
        if self.fresh_seconds >= self.keep_seconds:
            raise ValueError("fresh_seconds must be less than keep_seconds")
        return self


class RollupSettings(BaseModel, frozen=True, extra="forbid"):
    """The counts of this region on their way to others."""

    pass_seconds: float = Field(
        10.0, gt=0, le=600, description="how often a peer gets the counts that have changed"
    )
    most_busy_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="part of the time that passes may take; they are made less often beyond it",
    )


class TombstoneSettings(BaseModel, frozen=True, extra="forbid"):
    """Deleted rows."""

    retention_seconds: float = Field(
        30 * 86_400.0, gt=0, description="how long a tombstone is kept for absent peers"
    )
    full_sync_after_seconds: float = Field(
        30 * 86_400.0, gt=0, description="absence after which a peer loads everything; at most the retention"
    )
    prune_seconds: float = Field(60.0, gt=0, description="how often tombstones are pruned")

    @model_validator(mode="after")
    def _outlast_absence(self) -> Self:
        if self.full_sync_after_seconds > self.retention_seconds:
            raise ValueError(
                "full_sync_after_seconds must be at most retention_seconds: else tombstones are pruned before absent "
                "peers have heard of them"
            )
        return self


class ReplicationSettings(BaseModel, frozen=True, extra="forbid"):
    """The replication service."""

    name: str = Field(
        "", max_length=64, description="what people call this region; unset: the beginning of its id"
    )
    peers: tuple[str, ...] = Field(
        (), description="host:port of the replication services of other regions, which are followed"
    )
    statement_timeout_seconds: float = Field(
        600.0, gt=0, description="how long a bulk commit, an export or an import may take"
    )
    apply_timeout_seconds: float = Field(30.0, gt=0, description="how long applying one frame may take")
    strategy: StrategySettings = StrategySettings()
    sender: SenderSettings = SenderSettings()
    receiver: ReceiverSettings = ReceiverSettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    rollups: RollupSettings = RollupSettings()
    tombstones: TombstoneSettings = TombstoneSettings()
    channel: ChannelSettings = ChannelSettings(max_message_mib=16)

    @field_validator("peers")
    @classmethod
    def _are_addresses(cls, peers: tuple[str, ...]) -> tuple[str, ...]:
        for peer in peers:
            if not peer.startswith("unix:") and not ports.has_port(peer):
                raise ValueError(f"must be host:port, and {peer!r} is not")
        return peers
