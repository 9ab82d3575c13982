"""The addresses of the shards: configured ones, and DNS names that are resolved periodically."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from libs.runtime.loop import Loop
from libs.telemetry.setup import OFF, Telemetry

_LOOK_UP_DEADLINE_SECONDS = 30.0

DNS = "dns:"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a name, as `host:port`. Raises OSError."""


async def resolve(host: str, port: int) -> list[str]:
    """Every A and AAAA record of a name. A shard that has both counts as two, one of which is always as good."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [
        f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"
        for family, *_, address in found
    ]


def has_name(address: str) -> bool:
    """Whether `address` must be resolved: it is neither a unix socket nor an IP address."""
    if address.startswith("unix:"):
        return False
    try:
        ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return True
    return False


class Discovery:
    """All addresses that are known of what is set: `host:port`, `unix:path`, or `dns:///name:port`."""

    def __init__(
        self,
        shards: Sequence[str],
        every_s: float,
        resolve: Resolve = resolve,
        telemetry: Telemetry = OFF,
    ) -> None:
        self._every_s = every_s
        self._telemetry = telemetry
        self._resolve = resolve
        self._found: dict[str, tuple[str, ...]] = {
            shard: () if shard.startswith(DNS) else (shard,) for shard in shards
        }

    @property
    def names(self) -> list[str]:
        """What has to be followed."""
        return [shard for shard in self._found if shard.startswith(DNS)]

    @property
    def addresses(self) -> set[str]:
        """The known addresses."""
        return {address for addresses in self._found.values() for address in addresses}

    def follow(self, name: str, on_change: Callable[[], None]) -> Loop:
        """Looks a name up again and again. One that has no address just now keeps those that it had."""
        host, _, port = name.removeprefix(DNS).lstrip("/").rpartition(":")

        async def look_up() -> None:
            found = tuple(sorted(set(await self._resolve(host.strip("[]"), int(port)))))
            if found and found != self._found[name]:
                self._found[name] = found
                on_change()

        return Loop(
            f"addresses of {name}",
            look_up,
            interval_seconds=self._every_s,
            deadline_seconds=_LOOK_UP_DEADLINE_SECONDS,
            jitter=0.0,
            transient=(OSError,),
            telemetry=self._telemetry,
        )
