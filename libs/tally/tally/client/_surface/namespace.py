"""A part of the client: the calls to one service."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

from tally.client._calls.connection import Connection

N = TypeVar("N")


class Namespace(Generic[N]):
    """`client.<service>`: made when it is first asked for, and kept as long as the client."""

    def __init__(self, of: Callable[[Callable[[], Connection]], N]) -> None:
        """`of`: its class, which is given a function that returns the connection, or raises ClientUnusable."""
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
