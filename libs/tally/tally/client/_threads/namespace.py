"""A part of the asynchronous client for threads: the same methods, each of which waits for its result."""

import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


class Blocking:
    """The methods are those of the asynchronous namespace, and found there by their names."""

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
