"""The commands of `tally`, by the table of services; those of a service are loaded when one of them is asked for.

`services/cli/<service>` is a module, or a package with a module `commands`. It has `add_commands(app)`, which adds the
commands that the row of the service names.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from services.registry import SERVICES

_SUITE = "suite"
_FIRST = ("up", "cluster", "count", "get", "replay", "status", "trace", "migrate")
"""The help begins with what a newcomer needs; the other commands follow in the order of the table."""


class Commands(TyperGroup):
    """The commands of the whole suite, and those of each service."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update(load_commands(_SUITE))
        self._service_of = {command: service.name for service in SERVICES for command in service.commands}
        names = [*self.commands, *self._service_of]
        self._names = [*_FIRST, *(name for name in names if name not in _FIRST)]

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the help."""
        _ = ctx
        return self._names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name. If there is none all are loaded, so that typer finds names that are like it."""
        if cmd_name not in self.commands:
            wanted = self._service_of.get(cmd_name)
            for service in [wanted] if wanted else dict.fromkeys(self._service_of.values()):
                self.commands.update(load_commands(service))
        return super().get_command(ctx, cmd_name)


def load_commands(name: str) -> Mapping[str, Any]:
    """The commands that `services/cli/<name>` adds."""
    module = import_module(f"services.cli.{name}")
    if hasattr(module, "__path__"):
        module = import_module(f"services.cli.{name}.commands")
    app = typer.Typer(rich_markup_mode=None)
    module.add_commands(app)
    return get_group(app).commands
