"""A part of the client: the methods for one service."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

from tally.client._calls.connection import Connection


class Namespace:
    """The methods for one service, `client.<service>`. A `timeout` is in seconds; every method raises TallyError."""

    def __init__(self, opened: Callable[[], Connection]) -> None:
        """`opened` returns the connection of the client, or raises ClientUnusable when there is none."""
        self._open = opened


N = TypeVar("N", bound=Namespace)


class Attached(Generic[N]):
    """A namespace on the client: made when it is first asked for, and kept as long as the client."""

    def __init__(self, of: type[N]) -> None:
        self.of = of

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Any, owner: type) -> N: ...
    def __get__(self, client: Any, owner: type) -> Self | N:
        if client is None:
            return self
        made = self.of(lambda: client._open)  # noqa: SLF001 - it is a part of the client
        client.__dict__[self._name] = made  # which is found first from now on
        return made
