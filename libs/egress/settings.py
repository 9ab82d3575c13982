"""Settings of calls to external servers."""

from pydantic import BaseModel, Field


class EgressSettings(BaseModel, frozen=True, extra="forbid"):
    """How servers that are not ours are called."""

    simulated: bool = Field(False, description="call nothing but this machine, where simulators are")
    connect_seconds: float = Field(10.0, gt=0, le=300, description="longest attempt to connect")
    silence_seconds: float = Field(
        30.0, gt=0, le=600, description="longest time without a byte of an answer, and until its first one"
    )
    total_seconds: float = Field(900.0, gt=0, le=86_400, description="longest call")
    connections_per_host: int = Field(8, ge=1, le=256, description="connections to one host at once")
