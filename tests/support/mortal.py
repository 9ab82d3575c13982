"""A connection that is cut between two statements, as that of a process that is killed."""

from typing import Any


class Killed(Exception):
    """The process is gone."""


class Mortal:
    """A connection that is cut before its nth statement, or before the commit after it."""

    def __init__(self, connection: Any, statements: int) -> None:
        self._connection = connection
        self._left = statements

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._connection.terminate()
            raise Killed

    def __getattr__(self, name: str) -> Any:
        if name not in ("fetch", "fetchval", "fetchrow", "execute"):
            return getattr(self._connection, name)

        async def run(*arguments: Any) -> Any:
            self._spend()
            return await getattr(self._connection, name)(*arguments)

        return run


class MortalPool:
    """Gives out one connection, which dies after so many statements."""

    def __init__(self, connection: Any, statements: int) -> None:
        self.mortal = Mortal(connection, statements)

    def acquire(self) -> "MortalPool":
        return self

    async def __aenter__(self) -> Any:
        return self.mortal

    async def __aexit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mortal, name)
