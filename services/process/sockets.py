"""Private sockets for calls between the services of one process."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from libs.embedded.sockets import SocketFolder, open_socket_folder
from services.registry import ALL, SERVICES, Service
from services.settings import Settings
from tally.contract.errors import NotReady


@dataclass(frozen=True, slots=True)
class PrivateSockets:
    """Private sockets by which only the services of this process call each other."""

    folder: SocketFolder
    names: frozenset[str]
    """of the services that others call"""

    def address_of(self, name: str) -> str:
        return f"unix:{self.folder.reach / f'{name}.sock'}"

    async def watch(self, name: str) -> None:
        """Raises NotReady when the socket is removed."""
        await self.folder.watch([f"{name}.sock"])


def open_private_sockets(stack: AsyncExitStack, data_dir: Path) -> PrivateSockets:
    folder = stack.enter_context(open_socket_folder(data_dir))
    names = frozenset(name for service in SERVICES for name in service.calls)
    folder.prepare([f"{name}.sock" for name in names])
    return PrivateSockets(folder, names)


def settings_of(service: Service, settings: Settings, sockets: PrivateSockets | None) -> BaseModel:
    """The settings of a service; with `sockets` it calls the services of this process.

    Raises NotReady when it is set to call others than those.
    """
    own = settings.of(service.settings)
    if sockets is None:
        return own
    for called, field in service.calls.items():
        if getattr(own, field):
            raise NotReady(
                f"`{ALL}` runs a {called} service of its own: unset "
                f"{service.variable_of(field)}, or name the services one by one"
            )
    return own.model_copy(
        update={field: (sockets.address_of(called),) for called, field in service.calls.items()}
    )
