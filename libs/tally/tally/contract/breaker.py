"""A circuit breaker per target, after M. Nygard's "Release It!": pybreaker's states, made right for asyncio.

pybreaker decides when to open and to close. It cannot wait for a coroutine, takes a cancellation for a
failure, lets every caller in while half-open, and reads the wall clock; so the adapter calls the function
itself, tells pybreaker the outcome, and keeps the time and the one place for a probe.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

import pybreaker
import structlog

from libs.domain.clock import Clock
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from tally.contract.errors import Unavailable

_LOGGER = structlog.get_logger(__name__)

T = TypeVar("T")


class BreakerState(StrEnum):
    """Closed lets all calls through, open none, half-open one at a time."""

    CLOSED = pybreaker.STATE_CLOSED
    OPEN = pybreaker.STATE_OPEN
    HALF_OPEN = pybreaker.STATE_HALF_OPEN


OnChange = Callable[[str, BreakerState, BreakerState], None]


class Breaker:
    """Refuses calls to `name` for `reset_after_s` seconds after `failures` failures in a row, then probes.

    `is_failure` says which exceptions speak against the target; the others prove that it answers.
    `on_change` is told the name, the old state and the new one.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        reset_after_s: float,
        is_failure: Callable[[BaseException], bool],
        clock: Clock,
        on_change: OnChange | None = None,
    ) -> None:
        self._name = name
        self._reset_after_s = reset_after_s
        self._clock = clock
        self._opened_at = 0.0
        self._probing = False
        self._transitions = 0
        self._on_change = on_change
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=failures,
            exclude=[lambda error: not is_failure(error)],
            listeners=[_Listener(self._changed)],
            name=name,
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> BreakerState:
        """The state as of the last call; an open circuit is half-open only when a probe asks."""
        return BreakerState(self._breaker.current_state)

    async def call(
        self, function: Callable[[], Awaitable[T]], *, silent: tuple[type[Exception], ...] = ()
    ) -> T:
        """What `function` returns or raises. Raises Unavailable without calling it while the circuit is open.

        A cancelled call is neither success nor failure, and neither is one that raises what is `silent`: what
        says nothing of the target. A call that ends in another state than it began in is not counted: it
        speaks of the past.
        """
        self._admit()
        probe = self.state is BreakerState.HALF_OPEN
        transitions = self._transitions
        self._probing = probe
        try:
            result = await function()
        except silent:
            raise
        except Exception as error:
            self._report(error, transitions)
            raise
        else:
            self._report(None, transitions)
            return result
        finally:
            if probe:
                self._probing = False

    def _admit(self) -> None:
        if self.state is BreakerState.OPEN:
            wait_s = self._opened_at + self._reset_after_s - self._clock.monotonic()
            if wait_s > 0:
                raise Unavailable(
                    f"{self._name} is not called after repeated failures; next try in {wait_s:.1f} s"
                )
            self._breaker.half_open()
        elif self._probing:
            raise Unavailable(f"{self._name} is not called after repeated failures; it is being tried now")

    def _report(self, error: Exception | None, transitions: int) -> None:
        if transitions != self._transitions:
            return

        def outcome() -> None:
            if error is not None:
                raise error

        traceback = None if error is None else error.__traceback__
        try:
            self._breaker.call(outcome)
        except Exception as raised:
            if raised is not error:
                raise
        finally:
            if error is not None:  # else it would keep the frames that it went through here, which keep it
                error.__traceback__ = traceback

    def _changed(self, old: BreakerState, new: BreakerState) -> None:
        self._transitions += 1
        if new is BreakerState.OPEN:
            self._opened_at = self._clock.monotonic()
        if self._on_change is not None:
            self._on_change(self._name, old, new)


def reporter(telemetry: Telemetry) -> OnChange:
    """An `on_change` that logs each change and counts it."""
    transitions = catalogue.counter(telemetry.meter, catalogue.BREAKER_TRANSITIONS)

    def report(name: str, old: BreakerState, new: BreakerState) -> None:
        log = _LOGGER.info if new is BreakerState.CLOSED else _LOGGER.warning
        log("circuit breaker changed", breaker=name, old=old.value, new=new.value)
        transitions.add(1, {"breaker": name, "state": new.value})

    return report


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[BreakerState, BreakerState], None]) -> None:
        self._changed = changed

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,  # noqa: ARG002 - pybreaker passes it by name
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        if old_state is not None:
            self._changed(BreakerState(old_state.name), BreakerState(new_state.name))
