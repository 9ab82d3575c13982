"""Settings of the partitioner: TALLY_PARTITIONER__…"""

from pydantic import BaseModel, Field

from libs.rpc.channel import ChannelSettings


class SenderSettings(BaseModel, frozen=True, extra="forbid"):
    """The calls to one shard."""

    calls_at_once: int = Field(4, ge=1, le=64, description="calls under way to one shard")
    max_call_entries: int = Field(1_000, ge=1, le=10_000, description="entries in one call")
    max_call_bytes: int = Field(
        4 * 1024 * 1024, ge=1, le=8 * 1024 * 1024, description="bytes of payload in one call"
    )
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


class PartitionerSettings(BaseModel, frozen=True, extra="forbid"):
    """The partitioner."""

    shards: tuple[str, ...] = Field((), description='addresses of the counting shards: ["host:port", …]')
    max_rounds: int = Field(8, ge=1, description="times that all shards are tried in turn")
    round_backoff_seconds: float = Field(
        0.1, gt=0, description="longest pause after the first round; it doubles"
    )
    stream_batches_at_once: int = Field(16, ge=1, description="batches of one stream that are under way")
    sender: SenderSettings = SenderSettings()
    channel: ChannelSettings = ChannelSettings()
