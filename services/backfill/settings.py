"""Settings of the backfill: TALLY_BACKFILL__…"""

from pydantic import BaseModel, Field

from libs.egress.settings import EgressSettings
from libs.rpc.channel import ChannelSettings


class DirectorySettings(BaseModel, frozen=True, extra="forbid"):
    """How DIDs are resolved."""

    url: str = Field("https://plc.directory", description="the directory of did:plc")
    per_second: float = Field(10.0, gt=0, le=10_000, description="most calls a second of one process")
    at_once: int = Field(16, ge=1, le=256, description="most calls at once")
    timeout_seconds: float = Field(10.0, gt=0, le=300, description="longest call")


class BackfillSettings(BaseModel, frozen=True, extra="forbid"):
    """The backfill."""

    scheduler: tuple[str, ...] = Field((), description='where the schedulers are: `["host:port", …]`')
    partitioner: tuple[str, ...] = Field((), description='where the partitioners are: `["host:port", …]`')
    directory: DirectorySettings = DirectorySettings()
    egress: EgressSettings = EgressSettings()
    poll_seconds: float = Field(
        1.0, gt=0, le=60, description="time between two looks for accounts to resolve and runs to plan"
    )
    max_attempts: int = Field(3, ge=1, le=100, description="attempts of an account until it is given up")
    retry_seconds: float = Field(
        30.0, ge=0, le=3_600, description="longest wait before the first retry of an account; it doubles"
    )
    shipments_at_once: int = Field(4, ge=1, le=64, description="requests under way while events are counted")
    send_seconds: float = Field(20.0, gt=0, le=300, description="longest wait for the receipt of a request")
    channel: ChannelSettings = ChannelSettings()
