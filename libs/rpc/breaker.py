"""Reports of a circuit breaker for operators: a log line and a metric for each change."""

import structlog

from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from tally.contract.breaker import BreakerState, OnChange

_LOGGER = structlog.get_logger(__name__)


def reporter(telemetry: Telemetry) -> OnChange:
    """An `on_change` that logs each change and counts it."""
    transitions = catalogue.counter(telemetry.meter, catalogue.BREAKER_TRANSITIONS)

    def report(name: str, old: BreakerState, new: BreakerState) -> None:
        log = _LOGGER.info if new is BreakerState.CLOSED else _LOGGER.warning
        log("circuit breaker changed", breaker=name, old=old.value, new=new.value)
        transitions.add(1, {"breaker": name, "state": new.value})

    return report
