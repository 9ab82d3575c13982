"""The methods for one service: `client.<service>`, the class `<Service>` of the module `tally.client.<service>`.

A module of this package that defines such a class is found by its name, and `Blocking` is the same for threads.
"""

import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tally.client.connection import Connection


class Namespace:
    """The methods for one service."""

    def __init__(self, opened: Callable[[], Connection]) -> None:
        """`opened` gives the connection of a client that is open."""
        self._open = opened


def find_namespace(name: str) -> type[Namespace]:
    """The class of `client.<name>`. Raises AttributeError when there is none."""
    module = f"tally.client.{name}"
    if not name.startswith("_") and find_spec(module) is not None:
        found = getattr(import_module(module), name.capitalize(), None)
        if isinstance(found, type) and issubclass(found, Namespace):
            return found
    raise AttributeError(f"the client has no attribute {name!r}")


class Blocking:
    """The same methods, each of which waits for its result; they are found in the namespace by their names."""

    def __init__(
        self,
        namespace: type,
        opened: Callable[[], object],
        run: Callable[[Coroutine[Any, Any, Any]], Any],
    ) -> None:
        """`opened` gives the namespace of a client that is open, `run` the result of a coroutine in its event loop."""
        self._namespace = namespace
        self._opened = opened
        self._run = run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):  # asked for by copy and pickle, also where nothing is set yet
            raise AttributeError(name)
        method = getattr(self._namespace, name, None)
        if not inspect.iscoroutinefunction(method):
            raise AttributeError(f"{self._namespace.__name__} has no method {name!r}")

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._run(method(self._opened(), *args, **kwargs))

        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._namespace) if not name.startswith("_")]
