"""The rate limits of a host, from the headers of its answers. Pure."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_WAIT_SECONDS = 3_600.0
_EPOCH_SECONDS = 100_000_000.0
"""a reset beyond this many seconds is a time, and below it a duration (T002-36)"""


def wait_seconds(headers: Mapping[str, str], status: int, now: float, otherwise: float) -> float:
    """How long to make no call to the host: after a 429, when no call is left, or by Retry-After. At most an hour.

    `now`: seconds since 1970, for answers without a `Date`; `otherwise`: after a 429 that does not say.
    """
    told = _number(headers.get("retry-after")) if status in (429, 503) else None
    if told is None and (status == 429 or _number(headers.get("ratelimit-remaining")) == 0):
        told = _until_reset(headers, now)
        if told is None and status == 429:
            return otherwise
    return min(max(told or 0.0, 0.0), LONGEST_WAIT_SECONDS)


def _until_reset(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the window of the limit ends."""
    reset = _number(headers.get("ratelimit-reset"))
    if reset is None:
        return None
    return reset - _time_of(headers, now) if reset > _EPOCH_SECONDS else reset


def _time_of(headers: Mapping[str, str], now: float) -> float:
    """When the answer was written, by the clock that its reset is meant by."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError):
        return now


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < 1e11 else None
