"""An instance: a shard at an address, with a channel, a transport, and probes that tell whether it lives."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from libs.domain.clock import Clock
from libs.rpc.probe import NoAnswer
from services.partitioner.routing.liveness import Life, Liveness
from services.partitioner.routing.remote import RemoteTransport
from services.partitioner.settings import ProbeSettings
from tally.contract.errors import Unavailable

_LOGGER = structlog.get_logger(__name__)

_EAGER_SECONDS = 0.05

Ask = Callable[[float], Awaitable[bool]]
"""Asks the shard whether it serves, with a timeout in seconds. Raises NoAnswer."""


class Instance:
    """One shard at one address: `loops` are what runs for it, `close_channel` ends its connection."""

    def __init__(
        self,
        address: str,
        transport: RemoteTransport,
        liveness: Liveness,
        ask: Ask,
        settings: ProbeSettings,
        clock: Clock,
        close_channel: Callable[[], Awaitable[None]],
    ) -> None:
        self.address = address
        self.transport = transport
        self.loops: Sequence[asyncio.Task[None]] = ()
        self._liveness = liveness
        self._ask = ask
        self._settings = settings
        self._clock = clock
        self._close_channel = close_channel

    @property
    def life(self) -> Life:
        return self._liveness.life

    async def run_probes(self, is_any_live: Callable[[], bool], on_change: Callable[[], None]) -> None:
        """Probe without end, and report changes of liveness. While no shard is live, probe more often.

        A probe does not wait for the one before, so that a shard that froze is noticed in an interval for each
        failure that it takes, and one timeout.
        """
        async with asyncio.TaskGroup() as probes:
            while True:
                probes.create_task(self._probe(on_change))
                seconds = self._settings.interval_seconds
                await asyncio.sleep(seconds if is_any_live() else min(seconds, _EAGER_SECONDS))

    async def _probe(self, on_change: Callable[[], None]) -> None:
        asked_at, because = self._clock.monotonic(), {}
        try:
            serving = await self._ask(self._settings.timeout_seconds)
        except NoAnswer as no_answer:
            before, because = self.life, {"reason": str(no_answer)}
            self._liveness.note_failure(asked_at)
        else:
            before = self.life  # of now: other probes have been answered, or not, since this one was sent
            self._liveness.note_answer(serving=serving)
        if self.life is not before:
            log = _LOGGER.warning if before is Life.LIVE else _LOGGER.info
            log("shard changed", shard=self.address, life=self.life.value, before=before.value, **because)
            on_change()

    def give_up(self) -> None:
        """Let everything that waits for an answer of this shard go elsewhere."""
        self.transport.give_up(Unavailable(f"shard {self.address} does not answer"))

    async def leave(self) -> None:
        """Let the calls under way end, for as long as a call may take; take no new ones, and close."""
        await self.transport.until_idle()
        await self.close()

    async def close(self) -> None:
        """End the loops and the connection. Waiting callers get Unavailable."""
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        self.transport.give_up(Unavailable(f"shard {self.address} is not known any more"))
        await self._close_channel()
