"""Files that are read again when they change."""

import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from libs.rpc.security.watched import CHECK_SECONDS, Watched
from tally.contract.errors import NotReady


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def read(contents: Sequence[bytes]) -> str:
    text = b"".join(contents).decode()
    if "bad" in text:
        raise ValueError("it is bad")
    return text


def test_a_change_is_noticed_within_a_second_and_a_bad_one_is_logged_once(tmp_path: Path) -> None:
    path, time = tmp_path / "file", Time()
    path.write_text("one")
    watched = Watched("a thing", [path], read, now=time)
    path.write_text("second")
    assert watched.current == "one"
    time.now += CHECK_SECONDS
    assert watched.current == "second"
    path.write_text("bad: my-secret")
    with capture_logs() as logs:
        for _ in range(3):
            time.now += CHECK_SECONDS
            assert watched.current == "second"
    (log,) = logs
    assert "old version stays in use" in log["event"]
    assert "my-secret" not in str(log)
    path.unlink()
    time.now += CHECK_SECONDS
    assert watched.current == "second"
    path.write_text("third")
    time.now += CHECK_SECONDS
    assert watched.current == "third"


def test_a_change_that_could_not_be_read_for_a_while_is_read_later(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As by a process that has too many files open: else a caller that was taken out would stay in for good."""
    path, time = tmp_path / "file", Time()
    path.write_text("one")
    watched = Watched("a thing", [path], read, now=time)
    path.write_text("second")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
    time.now += CHECK_SECONDS
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    with capture_logs() as logs:
        assert watched.current == "one"
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert logs[0]["error"] == "Too many open files"
    time.now += CHECK_SECONDS
    assert watched.current == "second"


def test_an_unchanged_file_keeps_its_value(tmp_path: Path) -> None:
    path, time = tmp_path / "file", Time()
    path.write_text("one")
    watched = Watched("a thing", [path], read, now=time)
    first = watched.current
    time.now += 10 * CHECK_SECONDS
    assert watched.current is first


def test_a_file_that_cannot_be_read_at_the_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"cannot read a thing \(.*missing\): No such file"):
        Watched("a thing", [tmp_path / "missing"], read)
