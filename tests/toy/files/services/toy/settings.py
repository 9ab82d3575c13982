"""Settings of the toy service: TALLY_TOY__…"""

from pydantic import BaseModel, Field

from libs.rpc.channel import ChannelSettings


class ToySettings(BaseModel, frozen=True, extra="forbid"):
    """The toy service."""

    query: tuple[str, ...] = Field((), description='where the query services are: `["host:port", …]`')
    colours: tuple[str, ...] = Field(("red", "green"), description="colours that a toy may have")
    timeout_seconds: float = Field(2.0, gt=0, le=60, description="longest call to the query service")
    channel: ChannelSettings = ChannelSettings()
