"""A circuit breaker per target, after M. Nygard's "Release It!": pybreaker's states, adapted to asyncio.

pybreaker decides when to open and to close. It cannot wait for a coroutine, counts a cancellation as a
failure, allows every call while half-open, and reads the wall clock. So the adapter reports the result of a call to
pybreaker, keeps the time, and allows a single probe.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

import pybreaker

from tally.contract.errors import Unavailable

T = TypeVar("T")


class BreakerState(StrEnum):
    """Closed allows all calls, open none, half-open one at a time."""

    CLOSED = pybreaker.STATE_CLOSED
    OPEN = pybreaker.STATE_OPEN
    HALF_OPEN = pybreaker.STATE_HALF_OPEN


OnChange = Callable[[str, BreakerState, BreakerState], None]


class Breaker:
    """Lets no calls to `name` through for `reset_after_s` seconds after `failures` failures in a row, then a probe.

    `is_failure` says which exceptions of `call` speak against the target; the others prove that it answers.
    `now` is a clock that never goes back, in seconds. `on_change` is told the name, the old state and the new one.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        reset_after_s: float,
        now: Callable[[], float],
        is_failure: Callable[[Exception], bool] = lambda _: True,
        on_change: OnChange | None = None,
    ) -> None:
        self._name = name
        self._reset_after_s = reset_after_s
        self._now = now
        self._is_failure = is_failure
        self._on_change = on_change
        self.state = BreakerState.CLOSED
        """The state as of the last call; an open circuit becomes half-open only when a probe begins."""
        self._opened_at = 0.0
        self._is_probing = False
        self._transitions = 0
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=failures,
            listeners=[_Listener(self._changed)],
            name=name,
            throw_new_error_on_trip=False,
        )

    @property
    def wait_s(self) -> float | None:
        """The seconds until a call may begin: 0.0 if one may now, None while a probe is under way."""
        if self.state is BreakerState.OPEN:
            return max(0.0, self._opened_at + self._reset_after_s - self._now())
        return None if self._is_probing else 0.0

    async def call(
        self, function: Callable[[], Awaitable[T]], *, silent: tuple[type[Exception], ...] = ()
    ) -> T:
        """What `function` returns or raises. Raises Unavailable without calling it while no call may begin.

        A cancelled call counts neither as success nor as failure; nor does one that raises an error of `silent`,
        which is not a failure of the target.
        """
        wait_s = self.wait_s
        if wait_s != 0.0:
            then = "it is being tried now" if wait_s is None else f"next try in {wait_s:.1f} s"
            raise Unavailable(f"{self._name} is not called after repeated failures; {then}")
        begun = self.begin()
        has_failed: bool | None = None
        try:
            result = await function()
        except silent:
            raise
        except Exception as error:
            has_failed = self._is_failure(error)
            raise
        else:
            has_failed = False
            return result
        finally:
            self.end(begun, has_failed=has_failed)

    def begin(self) -> int:
        """Begin a call, of those that may begin. Returns the argument for `end`, which must follow."""
        if self.state is BreakerState.OPEN:
            self._breaker.half_open()
        self._is_probing = self.state is BreakerState.HALF_OPEN
        return self._transitions

    def end(self, begun: int, *, has_failed: bool | None) -> bool:
        """Record how a call ended; None: neither success nor failure. True if that opened the circuit.

        A call that ends in another state than it began in is not counted: its result is out of date.
        """
        if begun != self._transitions:
            return False
        if has_failed is False and not self._is_probing and not self._breaker.fail_counter:
            return False  # as nearly every call ends: there is nothing that pybreaker would change
        self._is_probing = False
        if has_failed is not None:
            try:
                self._breaker.call(_fail if has_failed else _succeed)
            except (
                _Failed
            ) as failed:  # would keep the error that is being raised now, and be kept by its own frames
                failed.__context__ = failed.__traceback__ = None
        return begun != self._transitions and self.state is BreakerState.OPEN

    def _changed(self, old: BreakerState, new: BreakerState) -> None:
        self.state = new
        self._transitions += 1
        if new is BreakerState.OPEN:
            self._opened_at = self._now()
        if self._on_change is not None:
            self._on_change(self._name, old, new)


class _Failed(Exception):
    """How pybreaker is told of a failure."""


def _fail() -> None:
    raise _Failed


def _succeed() -> None:
    pass


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
