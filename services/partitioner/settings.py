"""Settings of the partitioner: TALLY_PARTITIONER__…"""

import re

from pydantic import BaseModel, Field, field_validator

from libs.rpc import ports
from libs.rpc.channel import ChannelSettings

_SHARD = re.compile(r"unix:.+|dns:(///)?[^/\s]+:\d{1,5}|[^/\s]+:\d{1,5}")


class SenderSettings(BaseModel, frozen=True, extra="forbid"):
    """The calls to one shard."""

    calls_at_once: int = Field(4, ge=1, le=64, description="calls under way to one shard")
    max_call_entries: int = Field(1_000, ge=1, le=10_000, description="entries in one call")
    max_call_bytes: int = Field(
        4 * 1024 * 1024, ge=1, le=8 * 1024 * 1024, description="bytes of payload in one call"
    )
    max_call_events: int = Field(50_000, ge=1, le=500_000, description="events in one call")
    max_waiting_bytes: int = Field(
        64 * 1024 * 1024, ge=1, description="bytes that may wait before more are refused"
    )
    # A shard that answers late but well must not be given up: see services/settings.py.
    attempt_timeout_seconds: float = Field(
        8.0, gt=0, description="how long a call may take before the next shard is tried"
    )
    breaker_failures: int = Field(
        5, ge=1, description="calls that fail in a row until the shard is left alone"
    )
    breaker_reset_seconds: float = Field(
        1.0, gt=0, description="how long a shard is left alone before it is tried again"
    )


class ShardChannelSettings(ChannelSettings, frozen=True, extra="forbid"):
    """How a shard is reached."""

    # The router goes on to the next shard at once; gRPC's own retries would first wait for the one that is away.
    max_attempts: int = Field(
        1, ge=1, le=5, description="attempts that gRPC makes of a call that meets UNAVAILABLE; 1: no retries"
    )


class ProbeSettings(BaseModel, frozen=True, extra="forbid"):
    """How the partitioner notices that a shard is away, or back.

    Of a frozen one the partitions are to be served again within 2 s: here it is noticed within 1.6.
    """

    interval_seconds: float = Field(0.4, gt=0, le=60, description="time between two health checks of a shard")
    timeout_seconds: float = Field(0.8, gt=0, le=60, description="how long a health check may take")
    failures: int = Field(2, ge=1, description="health checks that fail in a row until a shard is given up")

    @property
    def longest_silence_seconds(self) -> float:
        """So long after it froze a shard is given up at the latest: a probe may have been answered just before."""
        return self.failures * self.interval_seconds + self.timeout_seconds


class RetrySettings(BaseModel, frozen=True, extra="forbid"):
    """Attempts beyond the first. What finds no budget waits for one."""

    backoff_seconds: float = Field(
        0.1, gt=0, description="longest pause after all shards were tried in turn; it doubles"
    )
    max_backoff_seconds: float = Field(1.0, gt=0, description="longest pause between two attempts")
    budget_share: float = Field(
        0.2, ge=0, le=1, description="share of the requests that may be tried again in vain"
    )
    budget_per_second: float = Field(10.0, gt=0, description="retries that there may be at any load")
    budget_burst: int = Field(1_000, ge=1, description="retries that there may be at once")


class PartitionerSettings(BaseModel, frozen=True, extra="forbid"):
    """The partitioner."""

    shards: tuple[str, ...] = Field(
        (),
        description='where the counting shards are: `["host:port", …]`; `dns:///name:port` stands for every address '
        "that the name has, now and later",
    )
    resolve_seconds: float = Field(2.0, gt=0, description="time between two look-ups of a `dns:` name")
    max_bytes_under_way: int = Field(
        16 * 1024 * 1024,
        ge=1,
        description="bytes of all requests under way, those that wait for a shard to come back among them, before more "
        "are refused",
    )
    stream_batches_at_once: int = Field(16, ge=1, description="batches of one stream that are under way")
    probe: ProbeSettings = ProbeSettings()
    retry: RetrySettings = RetrySettings()
    sender: SenderSettings = SenderSettings()
    channel: ShardChannelSettings = ShardChannelSettings()

    @field_validator("shards")
    @classmethod
    def _are_addresses(cls, shards: tuple[str, ...]) -> tuple[str, ...]:
        for shard in shards:
            if not _SHARD.fullmatch(shard):
                raise ValueError(f"{shard!r} must be host:port, unix:path or dns:///name:port")
            if not shard.startswith("unix:") and not ports.has_port(shard):
                raise ValueError(f"{shard!r} has no such port; the largest is {ports.LARGEST_PORT}")
        return shards
