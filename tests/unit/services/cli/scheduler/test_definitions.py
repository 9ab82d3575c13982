"""Jobs and quotas in TOML files."""

from pathlib import Path

import pytest

from services.cli.scheduler.definitions import read_job, read_quotas
from services.cli.terminal.failure import Failure
from tally.client.scheduler import Job, Period, Quota, Window

SHIPPED = Path(__file__).parents[5] / "services" / "scheduler" / "jobs"
LEAST = """
name = "a"
rationale = "r"
sla_hours = 48
population = "youtube_video"
handler = "metadata"
"""


def write(folder: Path, text: str) -> str:
    file = folder / "file.toml"
    file.write_text(text)
    return str(file)


def test_a_job_may_say_everything(tmp_path: Path) -> None:
    text = f"""{LEAST}
where = {{ is_oon = true, has_label_association = false }}
cadence = {{ period_hours = 24, bin_max = 7, offsets = [0, 4] }}
phase = -1
window = {{ start_minutes = 540, length_minutes = 480 }}
batch = 50
slot_size = 100
batch_seconds = 20
quotas = {{ youtube_units = 1 }}
catchup_hours = 48
overlap = "queue"
rollout_percent = 100
mode = "live"
allow_skew = true
"""
    assert read_job(write(tmp_path, text)) == Job(
        name="a",
        rationale="r",
        sla_hours=48,
        population="youtube_video",
        where={"is_oon": True, "has_label_association": False},
        handler="metadata",
        cadence=Period(24, 7, (0, 4)),
        phase=-1,
        window=Window(540, 480),
        batch=50,
        slot_size=100,
        batch_seconds=20,
        quotas={"youtube_units": 1},
        catchup_hours=48,
        rollout_percent=100,
        allow_skew=True,
    )


def test_what_a_job_leaves_out_is_the_services_to_fill_in(tmp_path: Path) -> None:
    job = read_job(write(tmp_path, LEAST + 'cadence = "daily"'))
    assert (job.cadence, job.window, job.batch, job.quotas) == ("daily", None, 0, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('cadence = "daily"\nbatch_size = 1', "batch_size: there is no such key"),
        ('cadence = "daily"\nwindow = { start = 1 }', "window.start: there is no such key"),
        ('cadence = "daily"\nwindow = { start_minutes = 1 }', "window.length_minutes: is missing"),
        ("cadence = { period_hours = 24, offset = 1 }", "cadence.offset: there is no such key"),
        ("cadence = { period_hours = 24, bin_max = 7, offsets = 4 }", "cadence.offsets: input should be"),
        ("cadence = 7", "cadence: input should be a valid string"),
        ("", "cadence: is missing"),
        ('cadence = "daily"\nbatch = "50"', "batch: input should be a valid integer"),
        ('cadence = "daily"\nbatch = 2147483648', "batch: input should be less than 2147483648"),
        ('cadence = "daily"\nquotas = { units = true }', "quotas.units: input should be a valid integer"),
        ('cadence = "daily"\nwhere = { is_oon = 1 }', "where.is_oon: input should be a valid boolean"),
        ("cadence = ", "is no TOML: Invalid value (at "),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, problem: str) -> None:
    file = write(tmp_path, LEAST + text)
    with pytest.raises(Failure) as raised:
        read_job(file)
    assert f"{file}: {problem}" in raised.value.message


def test_a_file_may_define_several_quotas(tmp_path: Path) -> None:
    text = """
[one]
units_per_day = 10_000
zone = "America/Los_Angeles"
protected_percent = 0
send_within_seconds = 2
[two]
units_per_day = 1
zone = "UTC"
"""
    assert read_quotas(write(tmp_path, text)) == [
        Quota(
            name="one",
            units_per_day=10_000,
            zone="America/Los_Angeles",
            protected_percent=0,
            send_within_seconds=2.0,
        ),
        Quota(name="two", units_per_day=1, zone="UTC"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no quota is there"),
        ('name = "a"', "name: is no table"),
        ("[a]\nunits_per_day = 1", "a.zone: is missing"),
        ('[a]\nunits_per_day = 1\nzone = "UTC"\nburst = 5', "a.burst: there is no such key"),
    ],
)
def test_a_wrong_key_of_a_quota_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(Failure, match=problem):
        read_quotas(write(tmp_path, text))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(Failure, match=r"nowhere\.toml cannot be read: No such file"):
        read_job("nowhere.toml")


def test_the_files_that_are_shipped_are_good() -> None:
    assert [quota.name for quota in read_quotas(str(SHIPPED / "youtube.toml"))] == ["youtube_units"]
    job = read_job(str(SHIPPED / "metadata.toml"))
    assert (job.cadence, job.quotas) == ("twice_weekly", {"youtube_units": 1})
