"""The report of counting."""

from dataclasses import dataclass


@dataclass(slots=True)
class Report:
    """The outcome of a bucket. Counts are of events."""

    bucket: int
    counted: int = 0
    pending: int = 0
    unknown: int = 0
    other: int = 0
    total: int = 0
