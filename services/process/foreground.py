"""A process in the foreground: until Ctrl-C or SIGTERM, or until its data are removed."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NoReturn

from libs.embedded.folder import list_data
from libs.rpc.server import OpenServer
from libs.runtime.presence import Presence
from services.process.life import open_process
from services.process.stores import Report
from services.settings import Settings
from tally.contract.errors import NotReady

_SWITCH_SECONDS = 0.0005


async def run_process(
    settings: Settings,
    names: Sequence[str],
    report: Report,
    announce: Callable[[OpenServer], None],
    give_up: Callable[[str], NoReturn],
) -> None:
    """Run these services until SIGINT or SIGTERM, however far they have come by then.

    Raises LoopDied when one of them cannot go on. `give_up` ends the process at once, when its data folder is removed:
    an orderly end could not keep anything any more.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    looking = asyncio.create_task(watch_data(settings.data_dir, give_up))
    async with AsyncExitStack() as stack:
        opening = asyncio.create_task(stack.enter_async_context(open_process(settings, names, report)))
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening
            return
        server, background = await opening
        _tune_interpreter()
        announce(server)
        watching = asyncio.create_task(background.watch())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await watching
        watching.cancel()
        report("Stopping")
    looking.cancel()


async def watch_data(data_dir: Path, give_up: Callable[[str], NoReturn]) -> None:
    """Call `give_up` with a sentence when the data are removed."""
    try:
        await Presence(list_data(data_dir)).watch()
    except NotReady as error:
        give_up(error.message)


def _tune_interpreter() -> None:
    # What has been imported and opened stays: the collector need not look at it again, nor come so often. A request
    # makes hundreds of objects, and no cycles of them, even when it is refused (libs/rpc/tracebacks.py); looking for
    # cycles took a sixth of reading entries. They are looked for at last after two million objects that stay, because
    # one that was overlooked may hold a request of megabytes.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    # While a flush is prepared in a thread, the loop waits so long for the interpreter after each of its system calls.
    sys.setswitchinterval(_SWITCH_SECONDS)
