"""Settings of the worker: TALLY_WORKER__…"""

from pydantic import BaseModel, Field, SecretStr

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


class WorkerSettings(BaseModel, frozen=True, extra="forbid"):
    """The worker."""

    scheduler: tuple[str, ...] = Field((), description='where the schedulers are: `["host:port", …]`')
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
    youtube: YoutubeSettings = YoutubeSettings()
