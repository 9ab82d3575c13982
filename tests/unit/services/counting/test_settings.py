"""Times that do not fit each other are refused at the start, by the names of their variables."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from services.counting.settings import CountingSettings

RECOVERY = "TALLY_COUNTING__RECOVERY__"
FLUSH = "TALLY_COUNTING__FLUSH__"


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (
            {"recovery": {"transaction_timeout_seconds": 10.0}},
            (f"{RECOVERY}TRANSACTION_TIMEOUT_SECONDS", f"{RECOVERY}TAKEOVER_SECONDS"),
        ),
        (
            {"recovery": {"statement_timeout_seconds": 8.5}},
            (f"{RECOVERY}STATEMENT_TIMEOUT_SECONDS", f"{RECOVERY}TRANSACTION_TIMEOUT_SECONDS"),
        ),
        (  # a shard that is well lost five logs a minute
            {"recovery": {"heartbeat_seconds": 20.0}},
            (
                f"{RECOVERY}HEARTBEAT_SECONDS",
                f"{RECOVERY}STATEMENT_TIMEOUT_SECONDS",
                f"{RECOVERY}TAKEOVER_SECONDS",
            ),
        ),
        (
            {"recovery": {"heartbeat_seconds": 4.0}},
            (f"{RECOVERY}HEARTBEAT_SECONDS", f"{RECOVERY}TAKEOVER_SECONDS"),
        ),
        (
            {"flush": {"timeout_seconds": 7.0}},
            (f"{FLUSH}TIMEOUT_SECONDS", f"{RECOVERY}TRANSACTION_TIMEOUT_SECONDS"),
        ),
        ({"flush": {"timeout_seconds": 11.0}}, (f"{FLUSH}TIMEOUT_SECONDS", f"{RECOVERY}TAKEOVER_SECONDS")),
        (
            {"flush": {"interval_seconds": 10.0, "max_interval_seconds": 5.0}},
            (f"{FLUSH}MAX_INTERVAL_SECONDS", f"{FLUSH}INTERVAL_SECONDS"),
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_times_that_do_not_fit_are_refused_by_name(settings: dict[str, Any], names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match=".*".join(map(re.escape, names))):
        CountingSettings.model_validate(settings)


def test_a_flush_is_given_up_after_the_server_has_ended_it_and_before_its_log_is_taken_over() -> None:
    settings = CountingSettings()
    recovery = settings.recovery
    assert recovery.transaction_timeout_seconds < settings.flush_timeout_seconds <= recovery.takeover_seconds
    longer = CountingSettings.model_validate(
        {"recovery": {"transaction_timeout_seconds": 20.0, "takeover_seconds": 30.0}}
    )
    assert longer.flush_timeout_seconds > 20.0
