"""What a host asks for in its headers (T002-36)."""

import pytest

from services.worker.handlers.fetch_repo.headers import wait_seconds

NOW = 1_750_000_000.0
DATE = "Sun, 15 Jun 2025 15:06:40 GMT"
"""of NOW"""


def wait(status: int, **headers: str) -> float:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wait_seconds(named, status, NOW + 500, 30.0)  # our own clock is 500 s ahead


def test_while_calls_are_left_nothing_waits() -> None:
    assert wait(200) == 0
    assert wait(200, ratelimit_remaining="1", ratelimit_reset="200", date=DATE) == 0
    assert wait(503, ratelimit_remaining="7", ratelimit_reset="200", date=DATE) == 0


def test_when_none_is_left_the_next_call_waits_for_the_reset() -> None:
    assert wait(200, ratelimit_remaining="0", ratelimit_reset="200", date=DATE) == 200
    assert wait(200, ratelimit_remaining="0", ratelimit_reset="1750000123", date=DATE) == 123
    assert wait(200, ratelimit_remaining="0", ratelimit_reset="1750000623") == 123
    assert wait(200, ratelimit_remaining="0") == 0


@pytest.mark.parametrize("reset", ["", "soon", "nan", "-5", "1e300", "inf"])
def test_a_429_that_does_not_say_how_long_waits_as_set(reset: str) -> None:
    assert wait(429) == 30
    assert wait(429, ratelimit_reset=reset) == 30


def test_a_refusal_is_obeyed_up_to_an_hour() -> None:
    assert wait(429, ratelimit_reset="1750000045", date=DATE) == 45
    assert wait(429, retry_after="7", ratelimit_reset="1750000045", date=DATE) == 7
    assert wait(503, retry_after="7") == 7
    assert wait(429, retry_after="86400") == 3_600
    assert wait(429, ratelimit_reset="1749999000", date=DATE) == 0
