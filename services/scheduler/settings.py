"""Settings of the scheduler: TALLY_SCHEDULER__…"""

from pydantic import BaseModel, Field

from libs.domain.bins import DEFAULT_SPACE


class SchedulerSettings(BaseModel, frozen=True, extra="forbid"):
    """The scheduler."""

    bin_space: int = Field(
        DEFAULT_SPACE,
        ge=1,
        le=1_000_000,
        description="values that bins are drawn from; must be what the schema was made with",
    )
    poll_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        description="longest sleep of the loop that looks for what is due, if no wake-up comes",
    )
    lease_seconds: float = Field(
        30.0, ge=1, le=600, description="time after which a slot of a silent worker may be leased again"
    )
    send_within_seconds: float = Field(
        10.0,
        ge=1,
        le=60,
        description="how long a batch may be sent after it was leased, if its job has no quota",
    )
    catchup_rate: float = Field(
        2.0,
        ge=0,
        le=1000,
        description="overdue slots of a job are leased at no more than this multiple of its planned rate; 0: no limit",
    )
    clock_uncertainty_seconds: float = Field(
        0.05, gt=0, le=1, description="uncertainty of Postgres's clock beyond which nothing is leased or paid"
    )
    transaction_timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="longest that a transaction of a call may hold its locks"
    )
    planning_timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="longest that planning a run may take"
    )
