"""Two complete regions on this machine, each a process that is restarted when it dies."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from libs.embedded.folder import open_folder
from libs.embedded.process import Process
from libs.rpc import ports
from libs.rpc.probe import is_serving
from libs.rpc.security.tls import NO_TLS
from libs.runtime.supervisor import Died, Supervisor, Tell
from services.devcluster.certificates import Certificates
from services.registry import ALL, BY_NAME

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_KILL_SECONDS = 5.0
_ASK_SECONDS = 2.0
_POLL_SECONDS = 0.1
_NAMES = ("first", "second")
_HEALTH = BY_NAME["replication"].health


@asynccontextmanager
async def open_regions(
    folder: Path, first: str, second: str, *, certificates: Certificates | None = None, tell: Tell
) -> AsyncIterator[tuple[int | None, int | None]]:
    """Run both at these addresses, with their data in `folder`; yields their pids once they are serving.

    To be used in the main thread. With `certificates` there are TLS and roles, also between the regions. `tell` hears
    of each death and each restart. Raises NotReady when one cannot start.
    """
    for address in (first, second):
        ports.check_free(address)
    supervisor = Supervisor(tell)
    for name, own, other in ((_NAMES[0], first, second), (_NAMES[1], second, first)):
        supervisor.add(name, _opener(name, own, other, folder / name, certificates))
    try:
        await asyncio.gather(*(supervisor.start(name) for name in _NAMES))
        yield supervisor.children[_NAMES[0]].pid, supervisor.children[_NAMES[1]].pid
    finally:
        await supervisor.stop_together(_NAMES)


def _opener(
    name: str, address: str, other: str, folder: Path, certificates: Certificates | None
) -> Callable[[Died], AbstractAsyncContextManager[int]]:
    tls = NO_TLS if certificates is None else certificates.of_services
    variables = {
        **({} if certificates is None else certificates.environment()),
        "TALLY_DATA_DIR": str(folder),
        "TALLY_SERVER__ADDRESS": address,
        "TALLY_REPLICATION__NAME": name,
        "TALLY_REPLICATION__PEERS": json.dumps([other]),
    }

    @asynccontextmanager
    async def open_region(died: Died) -> AsyncIterator[int]:
        os.close(open_folder(folder, is_private=False))
        process = Process.start(
            name,
            [sys.executable, "-m", "services", ALL],
            folder=folder,
            log=folder / "tally.log",
            death_signal=signal.SIGTERM,  # it stops its Postgres in order
            environment={**os.environ, **variables},
        )
        try:
            await process.wait_until(
                lambda: is_serving(address, _HEALTH, _ASK_SECONDS, tls),
                _START_SECONDS,
                every_seconds=_POLL_SECONDS,
            )
            async with process.watch(died, every_seconds=_POLL_SECONDS):
                yield process.pid
        finally:
            await process.stop([(signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)])

    return open_region
