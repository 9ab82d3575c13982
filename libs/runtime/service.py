"""A service that has been opened."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.rpc.server import Servable
from libs.runtime.handles import Handle


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Opened:
    """What a service offers to the server, and what it reports of itself."""

    servables: Sequence[Servable]
    is_ready: Callable[[], bool]
    drain: Callable[[], Awaitable[None]] = _nothing
    """finishes what was acknowledged, after the last call and before anything is closed"""
    handles: Mapping[Handle[Any], Any] = field(default_factory=dict)
    """for the services of the same process that are opened later"""
