"""The settings of a process, and the one place that reads the environment.

Each variable mirrors its place: TALLY_COUNTING__FLUSH__INTERVAL_SECONDS is `counting.flush.interval_seconds`.
"""

from pathlib import Path

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.embedded.postgres import EmbeddedPostgresSettings
from libs.embedded.valkey import EmbeddedValkeySettings
from libs.rpc.server import ServerSettings
from libs.stores.postgres import PostgresSettings
from libs.telemetry.logs import LogSettings
from services.counting.settings import CountingSettings
from services.partitioner.settings import PartitionerSettings
from services.query.settings import QuerySettings
from services.scheduler.settings import SchedulerSettings


class ValkeySettings(BaseModel, frozen=True, extra="forbid"):
    """How Valkey is reached."""

    url: str | None = Field(None, description="redis://… of a server of your own; unset: the embedded one")


class EmbeddedSettings(BaseModel, frozen=True, extra="forbid"):
    """The servers that Tally starts itself."""

    postgres: EmbeddedPostgresSettings = EmbeddedPostgresSettings()
    valkey: EmbeddedValkeySettings = EmbeddedValkeySettings()


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="TALLY_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    data_dir: Path = Field(
        Path(".tally"), description="where the embedded servers keep their data, and shards their spools"
    )
    partition_count: int = Field(
        16,
        ge=1,
        le=4096,
        description="partitions of a new cluster, a power of two; fixed for its life",
    )
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    postgres: PostgresSettings = PostgresSettings()
    valkey: ValkeySettings = ValkeySettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    partitioner: PartitionerSettings = PartitionerSettings()
    counting: CountingSettings = CountingSettings()
    query: QuerySettings = QuerySettings()
    scheduler: SchedulerSettings = SchedulerSettings()

    @field_validator("partition_count")
    @classmethod
    def _is_power_of_two(cls, count: int) -> int:
        if count & (count - 1):
            raise ValueError("must be a power of two, such as 16")
        return count

    @field_validator("counting")
    @classmethod
    def _fits_into_an_attempt(cls, counting: CountingSettings, info: ValidationInfo) -> CountingSettings:
        """An entry may wait for the insert before its own, and for a look at duplicates after it.

        If every attempt ended before that, slow commits would be acknowledged by no retry at all.
        """
        insert_seconds = counting.journal.insert_timeout_seconds
        partitioner: PartitionerSettings | None = info.data.get("partitioner")  # None: it is wrong itself
        if partitioner and partitioner.sender.attempt_timeout_seconds < 3 * insert_seconds:
            raise ValueError(
                f"an insert may take {insert_seconds:g} s, so that "
                "TALLY_PARTITIONER__SENDER__ATTEMPT_TIMEOUT_SECONDS must be at least three times that, "
                f"and is {partitioner.sender.attempt_timeout_seconds:g}"
            )
        return counting
