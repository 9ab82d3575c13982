"""The client for threads can do what the asynchronous one can, and is called in the same way."""

import ast
import gc
import inspect
import re
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tally.client
from tally.client import Client, ClientUnusable, blocking, client
from tally.client import errors as client_errors
from tally.client._calls.namespace import Attached
from tally.client._threads.derived import derive_from, public_names
from tally.client._threads.loop_thread import LoopThread
from tally.contract import errors as contract_errors

ONLY_ASYNCHRONOUS = {"open_batcher"}
ONLY_FOR_THREADS = {"address"}
"""an attribute of the other's instances"""
NAMESPACES: dict[str, Any] = {
    name: value.of
    for name in public_names(Client)
    if isinstance(value := inspect.getattr_static(Client, name), Attached)
}


def parameters(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """The names, kinds and defaults."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()]


def test_both_clients_have_the_same_names() -> None:
    assert (
        set(public_names(Client)) - ONLY_ASYNCHRONOUS == set(public_names(blocking.Client)) - ONLY_FOR_THREADS
    )
    assert {"scheduler", "catalog", "replication", "backfill", "counting", "query"} <= set(NAMESPACES)


@pytest.mark.parametrize("name", [*public_names(Client), "__init__"])
def test_a_method_takes_the_same_arguments_in_both(name: str) -> None:
    ours, theirs = (inspect.getattr_static(each, name, None) for each in (Client, blocking.Client))
    if callable(ours) and name not in ONLY_ASYNCHRONOUS:
        assert callable(theirs)
        assert parameters(ours) == parameters(theirs)


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_has_the_same_methods_in_both(name: str) -> None:
    part = getattr(blocking.Client("127.0.0.1:1"), name)
    assert public_names(type(part)) == public_names(NAMESPACES[name])
    for method in public_names(NAMESPACES[name]):
        ours = inspect.getattr_static(NAMESPACES[name], method)
        assert parameters(ours) == parameters(inspect.getattr_static(type(part), method))
        assert getattr(part, method).__doc__ == ours.__doc__


def test_a_namespace_lives_as_long_as_its_client() -> None:
    opened = Client("127.0.0.1:1")
    assert opened.counting is opened.counting
    assert opened.counting is not Client("127.0.0.1:1").counting


def test_a_client_that_is_let_go_takes_its_namespaces_with_it_at_once() -> None:
    opened = Client("127.0.0.1:1")
    counting, seen = opened.counting, weakref.ref(opened)
    gc.collect()
    gc.disable()
    try:
        del opened
        assert seen() is None
    finally:
        gc.enable()
    with pytest.raises(ClientUnusable, match="the client of this `counting` is gone"):
        counting._open()


@pytest.mark.parametrize("part", ["query", "counting"])
def test_the_methods_for_counts_and_for_a_shard_are_on_the_client_too(part: str) -> None:
    for name in public_names(NAMESPACES[part]):
        method = inspect.getattr_static(Client, name)
        assert inspect.unwrap(method) is inspect.getattr_static(NAMESPACES[part], name)


def test_every_error_that_a_call_can_raise_is_public_and_in_the_table_of_the_readme() -> None:
    shared = {name for name, value in vars(contract_errors).items() if _is_error(value)} | {"Violation"}
    own = {name for name, value in vars(client_errors).items() if _is_error(value)}
    assert shared <= set(client_errors.__all__)
    assert shared | own == set(client_errors.__all__) <= set(tally.client.__all__)
    for name in client_errors.__all__:
        assert getattr(client_errors, name) is getattr(tally.client, name)
    assert client.__file__ is not None
    readme = (Path(client.__file__).parents[2] / "README.md").read_text()
    table = re.findall(r"^\|(.*?)\|", readme[readme.index("## Errors") :], re.MULTILINE)
    assert own - {"TallyError", "Rejected"} <= set(re.findall(r"`(\w+)`", " ".join(table)))


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, contract_errors.TallyError)


def test_the_types_name_what_is_there() -> None:
    assert client.__file__ is not None
    stub = ast.parse(Path(client.__file__).with_name("blocking.pyi").read_text())
    (found,) = (node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "Client")
    names = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    assert {name for name in names if not name.startswith("_")} == set(public_names(blocking.Client))


class Asynchronous:
    """A small client."""

    async def add(self, left: int, right: int = 1) -> int:
        return left + right

    async def count_to(self, end: int) -> AsyncGenerator[int, None]:
        for number in range(end):
            yield number

    def double(self, numbers: AsyncIterable[int] | Iterable[int]) -> AsyncGenerator[int, None]:
        async def doubled() -> AsyncGenerator[int, None]:
            assert isinstance(numbers, AsyncIterable)
            async for number in numbers:
                yield 2 * number

        return doubled()

    async def total(self, numbers: AsyncIterable[int]) -> int:
        return sum([number async for number in numbers])

    async def echo(self, numbers: AsyncIterable[int] | Iterable[int]) -> object:
        return numbers


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread()

    async def last() -> None:
        return None

    yield made
    made.end(last)


def test_coroutines_return_and_generators_yield(thread: LoopThread) -> None:
    @derive_from(Asynchronous, lambda _: (thread, Asynchronous()), without=frozenset())
    class Threaded:
        pass

    threaded: Any = Threaded()
    assert threaded.add(2, right=3) == 5
    assert list(threaded.count_to(3)) == [0, 1, 2]
    assert list(threaded.double(range(3))) == [0, 2, 4]
    assert threaded.total(iter([1, 2])) == 3
    numbers = iter([1, 2])
    assert threaded.echo(numbers) is numbers  # it reads ordinary iterables in its own way
    with pytest.raises(TypeError):
        threaded.total()


def test_what_is_handed_in_is_read_outside_of_the_loop(thread: LoopThread) -> None:
    @derive_from(Asynchronous, lambda _: (thread, Asynchronous()), without=frozenset())
    class Threaded:
        pass

    threaded: Any = Threaded()
    answered = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        assert answered.wait(5)
        yield 2

    found = []
    for number in threaded.double(numbers()):
        found.append(number)
        answered.set()
    assert found == [2, 4]


def test_a_generator_that_is_left_is_ended(thread: LoopThread) -> None:
    @derive_from(Asynchronous, lambda _: (thread, Asynchronous()), without=frozenset({"add"}))
    class Threaded:
        pass

    threaded: Any = Threaded()
    items = threaded.count_to(10)
    assert next(items) == 0
    assert len(thread.kept) == 1
    items.close()
    assert threaded.total([]) == 0  # behind the end of the generator in the loop
    assert not thread.kept
    assert not hasattr(threaded, "add")


def test_a_method_that_has_no_form_for_threads_is_refused() -> None:
    class Odd:
        def name(self) -> str:
            return "odd"

    with pytest.raises(TypeError, match="name has no form for threads"):
        derive_from(Odd, lambda _: (LoopThread(), Odd()), without=frozenset())(type("Threaded", (), {}))
