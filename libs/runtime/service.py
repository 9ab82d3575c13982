"""A service that has been opened."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from libs.rpc.server import Servable
from libs.runtime.context import Offer


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Opened:
    """What a service offers to the server, and what it says of itself."""

    servables: Sequence[Servable]
    is_ready: Callable[[], bool]
    drain: Callable[[], Awaitable[None]] = _nothing
    """finishes what was acknowledged, after the last call and before anything is closed"""
    offer: Offer | None = None
    """of a shard, for the services in the same process"""
