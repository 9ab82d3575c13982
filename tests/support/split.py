"""Every service in a stack of its own, in the test's process: apart from the others, as in split processes."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from services.registry import SERVICES
from tests.support.stack import Stack, open_stack

NAMES = tuple(service.name for service in SERVICES)


@asynccontextmanager
async def open_split(
    dsn_of: Callable[[str], str],
    valkey_url: str,
    folder: Path,
    names: Sequence[str] = NAMES,
    overrides: Mapping[str, Any] | None = None,
) -> AsyncIterator[Mapping[str, Stack]]:
    """Open these services, each with the DSN that `dsn_of` has for its name; yields the stacks by name.

    `overrides` are settings by the name of their component; the addresses of other services are added to them.
    """
    opened: dict[str, Stack] = {}
    async with AsyncExitStack() as stack:
        for service in [each for each in SERVICES if each.name in names]:
            own = (overrides or {}).get(service.name) or service.settings()
            addresses = {
                setting: (opened[called].address,)
                for called, setting in service.calls.items()
                if called in opened
            }
            settings = {**(overrides or {}), service.name: own.model_copy(update=addresses)}
            opened[service.name] = await stack.enter_async_context(
                open_stack(dsn_of(service.name), valkey_url, folder, [service.name], settings)
            )
        yield opened
