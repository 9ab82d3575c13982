import pytest

from services.cli.terminal.configuration import read_settings
from services.cli.terminal.failure import USAGE, Failure


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("TALLY_PARTITION_COUNT", "15", "TALLY_PARTITION_COUNT: must be a power of two, such as 16"),
        ("TALLY_SERVER__ADDRESS", "here", "TALLY_SERVER__ADDRESS: must be host:port, [v6]:port or unix:path"),
        ("TALLY_COUNTING__SHARDS", "a", "TALLY_COUNTING__SHARDS: there is no such setting"),
        ("TALLY_EMBEDDED__VALKEY__PORT", "1", "TALLY_EMBEDDED__VALKEY__PORT: there is no such setting"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Failure) as failed:
        read_settings()
    assert (failed.value.message, failed.value.exit_code) == (sentence, USAGE)


def test_a_list_that_is_no_json_is_answered_with_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_PARTITIONER__SHARDS", "one:50051,other:50051")
    with pytest.raises(Failure, match="A list is written as JSON"):
        read_settings()


@pytest.mark.parametrize(("attempt", "insert"), [("7.4", None), (None, "5"), ("3", "1.1")])
def test_an_attempt_has_the_time_of_three_inserts(
    monkeypatch: pytest.MonkeyPatch, attempt: str | None, insert: str | None
) -> None:
    attempt_name = "TALLY_PARTITIONER__SENDER__ATTEMPT_TIMEOUT_SECONDS"
    if attempt:
        monkeypatch.setenv(attempt_name, attempt)
    if insert:
        monkeypatch.setenv("TALLY_COUNTING__JOURNAL__INSERT_TIMEOUT_SECONDS", insert)
    with pytest.raises(Failure) as failed:
        read_settings()
    assert failed.value.message == (
        f"an insert may take {insert or '2.5'} s (TALLY_COUNTING__JOURNAL__INSERT_TIMEOUT_SECONDS), so that "
        f"{attempt_name} must be at least "
        f"three times that, and is {attempt or '8'}"
    )
