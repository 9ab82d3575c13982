"""What kill -9 leaves behind: a connection that ends before or after its n-th statement, and no answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg


@dataclass(slots=True)
class Cut:
    """When to cut: the statement with this number, counted from 0, is not sent, or is not answered."""

    number: int | None = None
    is_after: bool = False
    was_reached: bool = False

    def arm(self, number: int, *, is_after: bool) -> None:
        self.number, self.is_after, self.was_reached = number, is_after, False

    def disarm(self) -> None:
        self.number = None

    def is_now(self) -> bool:
        """Whether it is this statement's turn. Counts it."""
        if self.number is None:
            return False
        self.number -= 1
        if self.number >= 0:
            return False
        self.number = None
        self.was_reached = True
        return True


def cutting_connection(cut: Cut) -> type["asyncpg.Connection[Any]"]:
    """A class of connections for `asyncpg.create_pool`. BEGIN and COMMIT are statements, too."""

    def cutting(method: Callable[..., Any]) -> Any:
        async def run(self: Any, *arguments: Any, **options: Any) -> Any:
            if not cut.is_now():
                return await method(self, *arguments, **options)
            if cut.is_after:
                await method(self, *arguments, **options)
            self.terminate()
            raise asyncpg.ConnectionDoesNotExistError("the process was killed here")

        return run

    names = ("execute", "executemany", "fetch", "fetchrow", "fetchval")
    return type(
        "Cutting", (asyncpg.Connection,), {name: cutting(getattr(asyncpg.Connection, name)) for name in names}
    )
