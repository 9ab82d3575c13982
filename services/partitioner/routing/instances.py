"""The known instances, the live ones among them, and the placement over these."""

import asyncio
from collections.abc import Callable

import structlog

from libs.runtime.background import Background
from services.partitioner.routing.discovery import Discovery, has_name
from services.partitioner.routing.instance import Instance
from services.partitioner.routing.liveness import Life
from services.partitioner.routing.placement import Placement

_LOGGER = structlog.get_logger(__name__)

_RENEW_SECONDS = 10.0
_AWAY = (Life.UNHEARD, Life.SILENT)


class Instances:
    """Opens and closes the instances of shards, and updates the placement when something changes.

    The placement is made over the live shards; while none is live, over all that are known: better a try than none.
    """

    def __init__(
        self,
        discovery: Discovery,
        connect: Callable[[str], Instance],
        partition_count: int,
        calls_at_once: int,
        background: Background,
    ) -> None:
        self._discovery = discovery
        self._connect = connect
        self._partition_count = partition_count
        self._calls_at_once = calls_at_once
        self._background = background
        self._known: dict[str, Instance] = {}
        self._leaving: dict[Instance, asyncio.Task[None]] = {}
        self._following: list[asyncio.Task[None]] = []
        self.was_any_live = False
        self.placement = Placement.over({}, partition_count)

    def start(self) -> None:
        """Connect to the shards that are known, and look for others from now on."""
        self._refresh()
        loops = [self._discovery.follow(name, self._refresh) for name in self._discovery.names]
        self._following = [self._background.start(loop.name, loop.run()) for loop in loops]
        self._following.append(self._background.start("renewal of silent shards", self._renew()))

    async def close(self) -> None:
        """Close the connection to every instance."""
        leaving = list(self._leaving)
        for task in (*self._following, *self._leaving.values()):
            task.cancel()
        for instance in (*self._known.values(), *leaving):
            await instance.close()

    @property
    def known_count(self) -> int:
        return len(self._known)

    @property
    def live_count(self) -> int:
        return sum(instance.life is Life.LIVE for instance in self._known.values())

    def is_any_live(self) -> bool:
        return self.live_count > 0

    def _refresh(self) -> None:
        wanted = self._discovery.addresses
        for address in wanted - self._known.keys():
            self._open(address)
        for address in self._known.keys() - wanted:
            self._forget(address)
        self._place()

    def _open(self, address: str) -> None:
        instance = self._known[address] = self._connect(address)
        instance.loops = [
            self._background.start(
                f"probes of {address}", instance.run_probes(self.is_any_live, self._note_change)
            ),
            *(
                self._background.start(f"calls to {address} #{number}", instance.transport.run())
                for number in range(self._calls_at_once)
            ),
        ]

    def _forget(self, address: str) -> None:
        instance = self._known.pop(address)
        self._leaving[instance] = self._background.start(f"leaving {address}", self._leave(instance))

    async def _renew(self) -> None:
        """Reconnect to silent instances, because gRPC resolves a failing name less and less often."""
        silent_before: set[Instance] = set()
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            silent = {
                instance
                for instance in self._known.values()
                if instance.life in _AWAY and has_name(instance.address)
            }
            if renewed := silent & silent_before:
                for instance in renewed:
                    self._forget(instance.address)
                    self._open(instance.address)
                self._place()
            silent_before = silent

    async def _leave(self, instance: Instance) -> None:
        await instance.leave()
        del self._leaving[instance]

    def _note_change(self) -> None:
        self._place()
        if self.is_any_live():
            self._give_up_silent()

    def _give_up_silent(self) -> None:
        """Entries that wait for a silent instance are sent elsewhere."""
        for instance in (*self._known.values(), *self._leaving):
            if instance.life is Life.SILENT:
                instance.give_up()

    def _place(self) -> None:
        live = {
            address: instance.transport
            for address, instance in self._known.items()
            if instance.life is Life.LIVE
        }
        self.was_any_live |= bool(live)
        chosen = live or {address: instance.transport for address, instance in self._known.items()}
        if chosen != self.placement.transports:
            self.placement = Placement.over(chosen, self._partition_count)
            _LOGGER.info(
                "partitions placed",
                version=self.placement.version,
                live=sorted(live),
                known=sorted(self._known),
            )
