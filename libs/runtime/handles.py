"""Calls between services of one process without gRPC: a service offers a handle, and others may use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True)
class Handle(Generic[T]):
    """The name of a handle of type T, known to the service that offers it and to those that use it."""

    name: str


class Handles:
    """The handles that the services of a process have offered so far."""

    def __init__(self) -> None:
        self._offered: dict[str, Any] = {}

    def offer(self, offered: Mapping[Handle[Any], Any]) -> None:
        """Make handles known to the services that are opened later. Raises ValueError for one that is known already."""
        for handle, value in offered.items():
            if handle.name in self._offered:
                raise ValueError(f"two services of this process offer the handle {handle.name}")
            self._offered[handle.name] = value

    def get(self, handle: Handle[T]) -> T | None:
        """What was offered; None when no service of this process offers it."""
        return cast("T | None", self._offered.get(handle.name))
