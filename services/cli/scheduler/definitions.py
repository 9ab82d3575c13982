"""Definitions of jobs and quotas in TOML files."""

import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from services.cli.terminal.failure import Failure
from services.cli.terminal.source import open_source
from tally.client.scheduler import Job, Period, Quota, Window

Int32 = Annotated[int, Field(ge=0, lt=2**31)]
Int64 = Annotated[int, Field(ge=0, lt=2**63)]


T = TypeVar("T", bound="_Table")


class _Table(BaseModel, frozen=True, extra="forbid", strict=True):
    """A table of a file, each key of its own type."""


class _Window(_Table):
    start_minutes: Int32
    length_minutes: Int32


class _Period(_Table):
    period_hours: Int32
    bin_max: Int32
    offsets: list[Int32]


_Cadence = Annotated[
    Annotated[str, Tag("preset")] | Annotated[_Period, Tag("period")],
    Discriminator(lambda value: "period" if isinstance(value, dict) else "preset"),
]


class _Job(_Table):
    name: str
    rationale: str
    sla_hours: Int32
    population: str
    where: dict[str, bool] = {}
    handler: str
    cadence: _Cadence
    phase: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    window: _Window | None = None
    batch: Int32 = 0
    slot_size: Int32 = 0
    batch_seconds: Int32 = 0
    quotas: dict[str, Int64] = {}
    catchup_hours: Int32 = 0
    overlap: str = "queue"
    rollout_percent: Int32 = 0
    mode: str = "live"
    allow_skew: bool = False


class _Quota(_Table):
    units_per_day: Int64
    zone: str
    protected_percent: Int32 | None = None
    send_within_seconds: int | float = 0.0


def read_job(file: str) -> Job:
    """The job that a file defines; `-` is standard input. Raises Failure, which names every key that is wrong."""
    table = _read(file, _Job, _read_toml(file))
    fields = dict(table)
    cadence, window = table.cadence, table.window
    if isinstance(cadence, _Period):
        fields["cadence"] = Period(cadence.period_hours, cadence.bin_max, tuple(cadence.offsets))
    if window is not None:
        fields["window"] = Window(window.start_minutes, window.length_minutes)
    return Job(**fields)


def read_quotas(file: str) -> list[Quota]:
    """The quotas that a file defines, a table each. Raises Failure, which names every key that is wrong."""
    tables = _read_toml(file)
    if not tables:
        raise Failure(f"{file}: no quota is there. A quota is a table with its name: [youtube_units]")
    if wrong := [name for name, table in tables.items() if not isinstance(table, dict)]:
        raise Failure(
            f"{file}: {wrong[0]}: is no table. A quota is a table with its name: [youtube_units], then units_per_day "
            "and zone"
        )
    return [Quota(name=name, **dict(_read(file, _Quota, table, (name,)))) for name, table in tables.items()]


def _read_toml(file: str) -> dict[str, Any]:
    with open_source(file) as binary:
        try:
            return tomllib.load(binary)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Failure(f"{file}: is no TOML: {error}") from error


def _read(file: str, model: type[T], table: Mapping[str, Any], path: tuple[str, ...] = ()) -> T:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = [_problem(each, path) for each in error.errors()]
        raise Failure("\n".join(f"{file}: {problem}" for problem in problems)) from error


def _problem(error: ErrorDetails, path: tuple[str, ...]) -> str:
    # "preset" and "period" are what a cadence may be, and no keys.
    parts = [str(part) for part in (*path, *error["loc"]) if part not in ("preset", "period")]
    key = ".".join(parts)
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: there is no such key"
        case "missing":
            return f"{key}: is missing"
        case _:
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}"
