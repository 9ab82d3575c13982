"""The options for batching events."""

from dataclasses import dataclass
from typing import Literal

from tally.client._delivery.sending import LONGEST_PATIENCE_S
from tally.contract.errors import InvalidRequest
from tally.contract.rules import MAX_EVENTS, MAX_REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class Batching:
    """How events that come one by one are gathered into requests, and how long those are tried.

    An event leaves at once while nothing is under way (J. Nagle's idea, RFC 896): a lone one never waits for
    company that may not come. While requests are under way the events gather, and leave as one request as soon as
    it is full, the oldest has waited for the linger, or everything else has its answer.
    """

    linger_s: float = 0.005
    """Longest wait of an event for others, while there is a place for another request under way."""
    max_events: int = 5_000
    """Maximum events of one request; at most 50,000."""
    max_bytes: int = 1024 * 1024
    """Maximum size of one request; at most 8 MiB."""
    max_in_flight: int = 8
    """Requests under way at once."""
    max_buffered_events: int = 100_000
    """Events that were handed in and have no answer yet, those under way included: this bounds the memory."""
    when_full: Literal["wait", "raise"] = "wait"
    """What a full buffer does to a caller: it waits for room, or gets BufferFull."""
    give_up_after_s: float = LONGEST_PATIENCE_S
    """How long a request is sent again; then its outcome is unknown. At most five minutes less than 24 hours,
    for which the service remembers it."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("linger_s", 0, 60),
            ("max_events", 1, MAX_EVENTS),
            ("max_bytes", 1024, MAX_REQUEST_BYTES),
            ("max_in_flight", 1, 1000),
            ("max_buffered_events", 1, 100_000_000),
            ("give_up_after_s", 0, LONGEST_PATIENCE_S),
        ):
            if not least <= getattr(self, name) <= most:
                raise InvalidRequest.of(
                    f"batching.{name}", f"must be from {least:,} to {most:,}, and is {getattr(self, name):,}"
                )
        if self.when_full not in ("wait", "raise"):
            raise InvalidRequest.of("batching.when_full", f"must be wait or raise, and is {self.when_full!r}")
