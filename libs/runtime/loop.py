"""A background loop: one turn after another; it continues while a store is unreachable."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from libs.rpc.tracebacks import drop_tracebacks
from libs.stores.postgres import AWAY
from libs.telemetry import catalogue
from libs.telemetry.setup import OFF, Telemetry

_LOGGER = structlog.get_logger(__name__)

Turn = Callable[[], Awaitable[float | None]]
"""One pass. Returns the seconds until the next one is due; None stands for the interval."""

_LASTING_SECONDS = 600.0


class Loop:
    """Repeats a turn for the life of a process.

    A turn that raises one of `transient` is repeated after `retry_seconds`; any other exception ends the loop, and with
    it the process. Of failures in a row each error is logged once, and so is the success that ends them; after ten
    minutes of failures they are errors in the log, and the same one is logged again every ten minutes. A turn that
    exceeds its deadline counts as one that failed, and is cancelled. The next one begins only when that has ended,
    because on a silent connection even a cancellation waits.
    """

    def __init__(
        self,
        name: str,
        turn: Turn,
        *,
        interval_seconds: float,
        deadline_seconds: float,
        retry_seconds: float | None = None,
        jitter: float = 0.1,
        transient: tuple[type[BaseException], ...] = AWAY,
        telemetry: Telemetry = OFF,
    ) -> None:
        """`jitter` shortens each pause at random by up to this part of it, so that processes do not act in step."""
        self.name = name
        self._turn = turn
        self._interval_seconds = interval_seconds
        self._deadline_seconds = deadline_seconds
        self._retry_seconds = interval_seconds if retry_seconds is None else retry_seconds
        self._jitter = jitter
        self._transient = transient
        self._turns = catalogue.counter(telemetry.meter, catalogue.LOOP_TURNS)
        self._woken = asyncio.Event()
        self._failures = 0
        self._failing_since = self._logged_at = 0.0
        self._logged_error = ""

    def wake(self) -> None:
        """Begin the next turn now, or right after the one in progress."""
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled. Raises what a turn raises, unless it is transient."""
        while True:
            self._woken.clear()
            await self._pause(await self._take_turn())

    async def _take_turn(self) -> float:
        """One turn; the seconds until the next one."""
        task = asyncio.ensure_future(self._turn())
        is_late = not await self._is_done_in_time(task)
        if is_late:  # noted before its end, which may never come
            self._note_failure(f"not done within its deadline of {self._deadline_seconds:g} s")
            await _end(task)
        try:
            pause = None if is_late and task.cancelled() else task.result()
        except self._transient as error:
            if not is_late:
                self._note_failure(str(error) or repr(error))
            drop_tracebacks(
                error
            )  # the task of the turn keeps the error, and so what was in the turn's frames
            return self._retry_seconds
        if is_late:
            return self._retry_seconds
        self._note_success()
        return self._interval_seconds if pause is None else pause

    def _note_failure(self, error: str) -> None:
        self._turns.add(1, {"loop": self.name, "outcome": "failed"})
        now = asyncio.get_running_loop().time()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if error == self._logged_error and now - self._logged_at < _LASTING_SECONDS:
            return
        self._logged_error, self._logged_at = error, now
        log = _LOGGER.error if now - self._failing_since >= _LASTING_SECONDS else _LOGGER.warning
        log(
            "background turn failed; will retry",
            loop=self.name,
            error=error,
            failures=self._failures,
            retry_seconds=self._retry_seconds,
        )

    def _note_success(self) -> None:
        self._turns.add(1, {"loop": self.name, "outcome": "done"})
        if self._failures:
            _LOGGER.info("background turn succeeded again", loop=self.name, failures=self._failures)
        self._failures, self._logged_error = 0, ""

    async def _is_done_in_time(self, task: "asyncio.Future[float | None]") -> bool:
        try:
            done, _ = await asyncio.wait({task}, timeout=self._deadline_seconds)
        except asyncio.CancelledError:
            await _end(task)
            raise
        return bool(done)

    async def _pause(self, seconds: float) -> None:
        shortened = seconds * (1 - self._jitter * random.random())  # noqa: S311 - it is no secret
        try:
            async with asyncio.timeout(shortened):
                await self._woken.wait()
        except TimeoutError:
            pass


async def _end(task: "asyncio.Future[float | None]") -> None:
    task.cancel()
    await asyncio.wait({task})
