"""Items of a job that were given up."""

from dataclasses import dataclass
from datetime import datetime

from tally.client._checks.times import from_timestamp
from tally.scheduler.v1 import job_pb2 as pb


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that failed for good, or in every try of a run; it stays in later runs, and a success closes the letter.

    `run_id`: the run in which it failed last; `try_count`: how often it was tried there. `detail`: the reason, as its
    worker reported it. `create_time` and `update_time`: when it was given up first and last.
    """

    item_id: str
    run_id: int
    try_count: int
    failed_for_good: bool
    detail: str
    create_time: datetime
    update_time: datetime

    @classmethod
    def from_message(cls, message: pb.DeadLetter) -> "DeadLetter":
        return cls(
            message.item_id,
            message.run_id,
            message.try_count,
            message.failed_for_good,
            message.detail,
            from_timestamp(message.create_time),
            from_timestamp(message.update_time),
        )
