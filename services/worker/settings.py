"""Settings of the worker: TALLY_WORKER__…"""

from pydantic import BaseModel, Field, SecretStr

from libs.egress.settings import EgressSettings
from libs.rpc.channel import ChannelSettings


class YoutubeSettings(BaseModel, frozen=True, extra="forbid"):
    """How YouTube's api is called."""

    api_key: SecretStr | None = Field(
        None, description="key of the YouTube Data api; without one the handler `metadata` is not offered"
    )
    endpoint: str | None = Field(
        None, description="another address than YouTube's own, such as a simulator's: `http://host:port/`"
    )
    timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="how long the api may be silent before a call has failed"
    )


class FetchSettings(BaseModel, frozen=True, extra="forbid"):
    """How repositories are fetched and stored."""

    rate_limit: int = Field(
        3_000, ge=2, le=10_000_000, description="most calls to one host in a window, of one worker process"
    )
    rate_window_seconds: float = Field(300.0, gt=0, le=86_400, description="length of that window")
    refused_pause_seconds: float = Field(
        30.0,
        gt=0,
        le=3_600,
        description="how long a host is left alone that refuses a call and does not say for how long",
    )
    most_repo_mib: int = Field(256, ge=1, le=4_096, description="largest repository")
    checkpoint_seconds: float = Field(
        0.1, ge=0, le=60, description="accounts that are verified within this time share a commit"
    )
    part_mib: int = Field(64, ge=1, le=1_024, description="records that are enough to write parts")
    part_seconds: float = Field(60.0, gt=0, le=3_000, description="longest time until parts are written")
    linger_seconds: float = Field(
        0.5,
        ge=0,
        le=60,
        description="parts are written so long after the last batch, if nothing is being fetched",
    )
    egress: EgressSettings = EgressSettings()


class WorkerSettings(BaseModel, frozen=True, extra="forbid"):
    """The worker."""

    scheduler: tuple[str, ...] = Field((), description='where the schedulers are: `["host:port", …]`')
    backfill: tuple[str, ...] = Field(
        (),
        description='where the backfill services are: `["host:port", …]`; unset: `fetch_repo` is not offered',
    )
    name: str | None = Field(None, description="what its name begins with in lists; unset: the host's name")
    slots_at_once: int = Field(
        4, ge=1, le=64, description="slots worked on at the same time, a thread for each"
    )
    wait_seconds: float = Field(10.0, gt=0, le=20, description="how long one call waits for a slot")
    call_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="how long the scheduler may take to answer, beyond that wait"
    )
    pause_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        description="longest pause before a call to the scheduler is repeated; it doubles up to this",
    )
    channel: ChannelSettings = ChannelSettings(max_attempts=1)
    backfill_channel: ChannelSettings = ChannelSettings()
    fetch: FetchSettings = FetchSettings()
    youtube: YoutubeSettings = YoutubeSettings()
