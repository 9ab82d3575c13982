"""The methods of the asynchronous client, derived for the blocking client: each waits for its result.

What is a coroutine there returns its result here; what yields asynchronously there is a generator here. An argument
that may be asynchronous there is an ordinary iterable here. It may block, and wait for what the generator yields: it is
read in threads of its own, an item at a time. A coroutine that takes ordinary iterables as well gets them as they are.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

from tally.client._calls.namespace import Attached
from tally.client._threads.loop_thread import LoopThread
from tally.client.errors import ClientUnusable

C = TypeVar("C")

Open = Callable[[Any], tuple[LoopThread, Any]]
"""of a client for threads, or a part of it: the thread of its loop, and the asynchronous one there"""

_END = object()


def derive_from(asynchronous: type, open_: Open, *, without: frozenset[str]) -> Callable[[type[C]], type[C]]:
    """Gives a class the public methods and namespaces of the asynchronous one that it does not have itself."""

    def derive(threaded: type[C]) -> type[C]:
        for name in public_names(asynchronous):
            if name in vars(threaded) or name in without:
                continue
            attribute = inspect.getattr_static(asynchronous, name)
            is_namespace = isinstance(attribute, Attached)
            setattr(
                threaded, name, _part(name, attribute, open_) if is_namespace else _method(attribute, open_)
            )
        return threaded

    return derive


def public_names(of: type) -> list[str]:
    """The names of its public methods and attributes."""
    return [name for name in dir(of) if not name.startswith("_")]


def is_iterator(method: Callable[..., Any]) -> bool:
    """Whether it yields asynchronously."""
    return inspect.isasyncgenfunction(method) or "AsyncGenerator" in str(
        inspect.signature(method).return_annotation
    )


def _part(name: str, namespace: Attached[Any], open_: Open) -> property:
    """The namespace for threads: an object with its methods, each of which waits."""

    def open_part(part: Any) -> tuple[LoopThread, Any]:
        thread, client = open_(part._client)  # noqa: SLF001 - it is that of the class below
        return thread, getattr(client, name)

    of = namespace.of
    methods = {each: _method(inspect.getattr_static(of, each), open_part) for each in public_names(of)}
    made = type(of.__name__, (_Part,), {**methods, "__slots__": (), "__doc__": of.__doc__})
    return property(made, doc=of.__doc__)


class _Part:
    """A namespace that refers to its client; the client does not refer to it."""

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        self._client = client


def _method(method: Callable[..., Any], open_: Open) -> Callable[..., Any]:
    signature = inspect.signature(method)
    fed = [
        name
        for name, each in signature.parameters.items()
        if "AsyncIter" in str(each.annotation)
        and (is_iterator(method) or "abc.Iterable" not in str(each.annotation))
    ]

    def begin(own: Any, *args: Any, **kwargs: Any) -> Any:
        if not fed:
            return method(own, *args, **kwargs)
        bound = signature.bind(own, *args, **kwargs)
        bound.arguments.update({name: _in_threads(bound.arguments[name]) for name in fed})
        return method(*bound.args, **bound.kwargs)

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        thread, own = open_(self)
        return thread.run(begin(own, *args, **kwargs))

    @wraps(method)
    def iterate(self: Any, *args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        thread, own = open_(self)
        items = thread.run(_begun(begin, own, *args, **kwargs))
        thread.kept.add(items)
        try:
            while (item := thread.run(_next(items))) is not _END:
                yield item
        finally:
            # Not waited for: it may be the garbage collector that ends this, in any thread and at any time. And when
            # the client is closed, the loop ends it itself.
            with suppress(ClientUnusable):
                thread.start(_end(items, thread.kept))

    if is_iterator(method):
        return iterate
    if not inspect.iscoroutinefunction(method):
        raise TypeError(
            f"{method.__qualname__} has no form for threads; it must be written in the client for threads"
        )
    return call


async def _begun(
    begin: Callable[..., AsyncGenerator[Any, None]], *args: Any, **kwargs: Any
) -> AsyncGenerator[Any, None]:
    """In the loop, for a method may begin its call before anything is asked of the generator."""
    return begin(*args, **kwargs)


async def _next(items: AsyncGenerator[Any, None]) -> Any:
    return await anext(items, _END)


async def _end(items: AsyncGenerator[Any, None], kept: set[object]) -> None:
    await items.aclose()
    kept.discard(items)


async def _in_threads(items: Iterable[Any]) -> AsyncIterator[Any]:
    """Read an iterable that may block without holding up the loop."""
    iterator = iter(items)
    while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield item
