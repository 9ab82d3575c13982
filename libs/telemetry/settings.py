"""Settings of telemetry: TALLY_TELEMETRY__…"""

from pydantic import BaseModel, Field, field_validator

_LARGEST_PORT = 65_535


class TelemetrySettings(BaseModel, frozen=True, extra="forbid"):
    """What is measured and traced besides what the standard variables of OpenTelemetry (OTEL_…) ask for."""

    address: str | None = Field(
        None,
        description="where `/metrics` for Prometheus and `/traces/<trace id>` for `tally trace` are served over HTTP: "
        "`host:port`, port 0 takes a free one; unset: nowhere",
    )
    trace_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="part of the requests that are traced, if their caller does not decide it; OTEL_TRACES_SAMPLER "
        "overrides it",
    )
    spans_kept: int = Field(
        2_000, ge=100, le=100_000, description="most recent spans that are kept in memory for `/traces/`"
    )

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not port.isascii() or int(port) > _LARGEST_PORT:
            raise ValueError("must be host:port, such as 127.0.0.1:9464")
        return address
