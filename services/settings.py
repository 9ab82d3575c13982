"""The settings of a process, and the one place that reads the environment.

Each variable mirrors its place: TALLY_COUNTING__FLUSH__INTERVAL_SECONDS is `counting.flush.interval_seconds`. The
component of each service has the name of its row in the table, and the model that the row gives.
"""

from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, Field, create_model, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.embedded.postgres import EmbeddedPostgresSettings
from libs.embedded.valkey import EmbeddedValkeySettings
from libs.rpc.channel import ChannelSettings
from libs.rpc.security.tls import ChannelTlsSettings
from libs.rpc.server import ServerSettings
from libs.stores.postgres import PostgresSettings
from libs.telemetry.logs import LogSettings
from libs.telemetry.settings import TelemetrySettings
from services.registry import SERVICES
from services.rules import check_attempts_outlast_inserts

T = TypeVar("T", bound=BaseModel)


class ValkeySettings(BaseModel, frozen=True, extra="forbid"):
    """How Valkey is reached."""

    url: str | None = Field(None, description="redis://… of a server of your own; unset: the embedded one")


class CallsSettings(BaseModel, frozen=True, extra="forbid"):
    """The calls from service to service, where the settings of a service's own channel do not say."""

    tls: ChannelTlsSettings = ChannelTlsSettings()


class EmbeddedSettings(BaseModel, frozen=True, extra="forbid"):
    """The servers that Tally starts itself."""

    postgres: EmbeddedPostgresSettings = EmbeddedPostgresSettings()
    valkey: EmbeddedValkeySettings = EmbeddedValkeySettings()


class Settings(BaseSettings):
    """Everything that can be set, but for the services: `model_of_all` adds a component for each."""

    model_config = SettingsConfigDict(
        env_prefix="TALLY_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    data_dir: Path = Field(
        Path(".tally"),
        description="where the embedded servers keep their data, shards their spools, and services what they know of "
        "their cluster",
    )
    partition_count: int = Field(
        16,
        ge=1,
        le=4096,
        description="partitions of a new cluster, a power of two; fixed for its life",
    )
    objects_url: str | None = Field(
        None,
        description="the object store: file:///folder, s3://bucket/prefix, gs://… or az://…; unset: the folder "
        "`objects` in TALLY_DATA_DIR",
    )
    server: ServerSettings = ServerSettings()
    calls: CallsSettings = CallsSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    postgres: PostgresSettings = PostgresSettings()
    valkey: ValkeySettings = ValkeySettings()
    embedded: EmbeddedSettings = EmbeddedSettings()

    @field_validator("partition_count")
    @classmethod
    def _is_power_of_two(cls, count: int) -> int:
        if count & (count - 1):
            raise ValueError("must be a power of two, such as 16")
        return count

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        check_attempts_outlast_inserts(self)
        return self

    def of(self, model: type[T]) -> T:
        """The settings of the service whose model this is, its channels with the TLS of all calls unless they have
        their own. Raises LookupError when there is no such service."""
        for service in SERVICES:
            if service.settings is model:
                found: T = getattr(self, service.name)
                return _with_tls(found, self.calls.tls)
        raise LookupError(f"no service has the settings {model.__name__}")


def _with_tls(settings: T, tls: ChannelTlsSettings) -> T:
    """The same settings, with this TLS for each channel in them that has none."""
    if not tls.is_on:
        return settings
    if isinstance(settings, ChannelSettings):
        return settings if settings.tls.is_on else settings.model_copy(update={"tls": tls})
    parts = {name: value for name, value in settings if isinstance(value, BaseModel)}
    return settings.model_copy(update={name: _with_tls(part, tls) for name, part in parts.items()})


@cache
def model_of_all() -> type[Settings]:
    """The settings with the component of every service."""
    components: dict[str, Any] = {
        service.name: (service.settings, service.settings()) for service in SERVICES
    }
    return create_model("Settings", __base__=Settings, __doc__=Settings.__doc__, **components)


def read_settings(**values: Any) -> Settings:
    """The settings of the environment, but for those in `values`. Raises ValidationError, or SettingsError."""
    return model_of_all()(**values)
