"""The readiness of a process, as its servers report it in their health."""

import asyncio
from collections.abc import Sequence

from libs.rpc.server import OpenServer
from libs.runtime.background import Background
from libs.runtime.service import Opened
from libs.stores.server_clock import ServerClock

_READINESS_SECONDS = 0.2
_STARTING_SECONDS = 0.02


async def tell_readiness(
    served: Sequence[tuple[OpenServer, Sequence[Opened]]], background: Background, clock: ServerClock
) -> None:
    """Say SERVING for what is ready, and only for that, while the process runs."""
    while True:
        is_sound, all_ready = background.is_alive and clock.agrees, True
        for server, opened in served:
            for each in opened:
                is_ready = is_sound and each.is_ready()
                all_ready &= is_ready
                for servable in each.servables:
                    await server.health.set_serving(servable.name, is_ready)
            if not any(each.servables for each in opened):
                await server.health.set_serving("", is_sound and all(each.is_ready() for each in opened))
        await asyncio.sleep(_READINESS_SECONDS if all_ready else _STARTING_SECONDS)


async def until_ready(opened: Sequence[Opened], background: Background, clock: ServerClock) -> None:
    while not (clock.agrees and all(each.is_ready() for each in opened)):
        if not background.is_alive:
            await background.watch()
        await asyncio.sleep(0.01)
