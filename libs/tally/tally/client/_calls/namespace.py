"""A part of the client: the methods for one service."""

import weakref
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

from tally.client._calls.connection import Connection
from tally.client.errors import ClientUnusable


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
        made = self.of(_weakly(weakref.ref(client), self._name))
        client.__dict__[self._name] = made  # which is found first from now on
        return made


def _weakly(find: Callable[[], Any], name: str) -> Callable[[], Connection]:
    """The connection of a client that is kept by others: what it keeps itself must not keep it in a circle."""

    def opened() -> Connection:
        if (client := find()) is None:
            raise ClientUnusable(
                f"the client of this `{name}` is gone: keep the client as long as you use its parts",
                reason="CLIENT_GONE",
            )
        connection: Connection = client._open  # noqa: SLF001 - it is a part of the client
        return connection

    return opened
