"""Import contracts over the services of the table: `services.<name>` in `pyproject.toml` stands for all of them."""

from typing import Any

from importlinter import Contract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract

from services.registry import SERVICES

_EACH = "services.<name>"


class _OfTheTable(Contract):
    def __init__(self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]) -> None:
        """The options are those of the contract, with the services in them."""
        packages = [f"services.{service.name}" for service in SERVICES]
        filled = {
            option: packages if value == [_EACH] else value for option, value in contract_options.items()
        }
        super().__init__(name, session_options, filled)


class ServicesIndependent(_OfTheTable, IndependenceContract):
    """As `independence`."""


class ServicesForbidden(_OfTheTable, ForbiddenContract):
    """As `forbidden`."""
