"""What a definition may be."""

from typing import Any

import pytest

from libs.domain.bins import DEFAULT_SPACE, SOURCE_SPACE
from services.scheduler.job_rules import read_definition
from services.scheduler.job_wire import job_of
from tally.contract.errors import InvalidRequest
from tally.scheduler.v1 import job_pb2 as pb


def job(**changes: Any) -> pb.Job:
    fields: dict[str, Any] = {
        "name": "daily_sync_all_metadata_binned",
        "rationale": "Partners were promised five days.",
        "sla_hours": 120,
        "population": "youtube_video",
        "handler": "metadata",
        "cadence": pb.Cadence(preset="twice_weekly"),
        "window": pb.Window(start_minutes=540, length_minutes=480),
        "quotas": {"units": 1},
        **changes,
    }
    return pb.Job(**{name: value for name, value in fields.items() if value is not None})


def period(hours: int = 24, bin_max: int = 7, offsets: tuple[int, ...] = (0, 4)) -> pb.Cadence:
    return pb.Cadence(period=pb.Period(period_hours=hours, bin_max=bin_max, offsets=offsets))


def refused(changed: pb.Job, space: int = DEFAULT_SPACE) -> list[str]:
    with pytest.raises(InvalidRequest) as caught:
        read_definition(changed, {"units": 9}, space)
    return [violation.field.removeprefix("job.") for violation in caught.value.violations]


def test_a_definition_has_its_defaults_filled_in() -> None:
    """000-28, 000-32, 000-41"""
    definition = read_definition(job(), {"units": 9}, DEFAULT_SPACE)
    assert (definition.batch, definition.slot_size) == (50, 100)
    assert (definition.batch_seconds, definition.catchup_hours) == (20, 48)
    assert (definition.bin_max, definition.offsets) == (7, (0, 4))
    again = read_definition(job_of(definition), {"units": 9}, DEFAULT_SPACE)
    assert again == definition


def test_a_custom_cadence_travels_there_and_back() -> None:
    cadence = period(12, 14, (1, 8))
    cadence.phase = 3
    definition = read_definition(
        job(cadence=cadence, window=None, sla_hours=500), {"units": 9}, DEFAULT_SPACE
    )
    assert definition.length_minutes == 720
    assert read_definition(job_of(definition), {"units": 9}, DEFAULT_SPACE) == definition


def test_runs_are_skipped_only_where_no_bin_misses_its_turn() -> None:
    """T000-15"""
    daily = {"cadence": pb.Cadence(preset="daily"), "sla_hours": 48}
    for overlap in (pb.OVERLAP_SKIP, pb.OVERLAP_BUFFER_ONE):
        definition = read_definition(job(overlap=overlap, **daily), {"units": 9}, DEFAULT_SPACE)
        assert job_of(definition).overlap == overlap
        assert refused(job(overlap=overlap)) == ["overlap"]
    assert refused(job(overlap=9)) == ["overlap"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "Daily"}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"rationale": " \n"}, "rationale"),
        ({"sla_hours": 0}, "sla_hours"),
        ({"sla_hours": 103}, "sla_hours"),  # 96 h is the largest gap, and 8 h the window: T000-35
        ({"population": "bsky"}, "population"),
        ({"where": {"gone": True}}, "where"),
        ({"handler": "nothing"}, "handler"),
        ({"population": "youtube_channel"}, "handler"),
        ({"cadence": None}, "cadence"),
        ({"cadence": pb.Cadence(preset="hourly")}, "cadence.preset"),
        ({"cadence": period(5)}, "cadence.period.period_hours"),
        ({"cadence": period(36)}, "cadence.period.period_hours"),
        ({"cadence": period(0)}, "cadence.period.period_hours"),
        ({"cadence": period(bin_max=0)}, "cadence.period.bin_max"),
        ({"cadence": period(bin_max=-7)}, "cadence.period.bin_max"),
        ({"cadence": period(offsets=())}, "cadence.period.offsets"),
        ({"cadence": period(offsets=(0, 7))}, "cadence.period.offsets"),
        ({"cadence": period(offsets=(-1,))}, "cadence.period.offsets"),
        ({"cadence": period(offsets=(2, 2))}, "cadence.period.offsets"),
        ({"cadence": period(bin_max=11)}, "cadence"),  # does not divide the bin space: T000-04
        ({"window": pb.Window(start_minutes=1440, length_minutes=10)}, "window.start_minutes"),
        ({"window": pb.Window(start_minutes=0, length_minutes=1441)}, "window.length_minutes"),
        ({"window": pb.Window(start_minutes=10)}, "window.length_minutes"),
        ({"batch": 51}, "batch"),
        ({"batch": -1}, "batch"),
        ({"slot_size": 75}, "slot_size"),
        ({"slot_size": 1050}, "slot_size"),
        ({"batch_seconds": -1}, "batch_seconds"),
        ({"quotas": {"nowhere": 1}}, "quotas"),
        ({"quotas": {"units": 10}}, "quotas"),
        ({"quotas": {"units": 0}}, "quotas"),
        ({"catchup_hours": -1}, "catchup_hours"),
        ({"rollout_percent": 10}, "rollout_percent"),
        ({"mode": 7}, "mode"),
        ({"overlap": 7}, "overlap"),
    ],
)
def test_each_wrong_field_is_told(changes: dict[str, Any], field: str) -> None:
    """000-41, T000-06, T000-35"""
    assert refused(job(**changes)) == [field]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert refused(job(name="", rationale="", sla_hours=-1, batch=99)) == [
        "name",
        "rationale",
        "sla_hours",
        "batch",
    ]


def test_a_skewed_division_has_to_be_allowed_and_is_told_with_its_shares() -> None:
    """T000-04"""
    with pytest.raises(InvalidRequest, match=r"14\.244 to 14\.341 %"):
        read_definition(job(), {"units": 9}, SOURCE_SPACE)
    assert read_definition(job(allow_skew=True), {"units": 9}, SOURCE_SPACE).bin_max == 7
