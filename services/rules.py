"""Rules between the settings of several services."""

from typing import Protocol, TypeVar

from pydantic import BaseModel

from services.counting.settings import CountingSettings
from services.partitioner.settings import PartitionerSettings

T = TypeVar("T", bound=BaseModel)


class AllSettings(Protocol):
    """The settings of every service, by their models."""

    def of(self, model: type[T]) -> T:
        """The settings of the service whose model this is."""


def check_attempts_outlast_inserts(settings: AllSettings) -> None:
    """An entry may wait for the insert before its own, and for a look at duplicates after it.

    If every attempt ended before that, slow commits would be acknowledged by no retry at all. Raises ValueError.
    """
    insert_seconds = settings.of(CountingSettings).journal.insert_timeout_seconds
    attempt_seconds = settings.of(PartitionerSettings).sender.attempt_timeout_seconds
    if attempt_seconds < 3 * insert_seconds:
        raise ValueError(
            f"an insert may take {insert_seconds:g} s (TALLY_COUNTING__JOURNAL__INSERT_TIMEOUT_SECONDS), so that "
            "TALLY_PARTITIONER__SENDER__ATTEMPT_TIMEOUT_SECONDS must be at least three times that, "
            f"and is {attempt_seconds:g}"
        )
