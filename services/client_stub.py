"""The types of the client for threads, made from the asynchronous client: `python -m services.client_stub`.

What the asynchronous client has and the other does not have itself is derived when the program runs; this is how a type
checker and an editor come to know it.
"""

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from services.client_namespaces import replace_file
from tally.client import Client as Asynchronous
from tally.client._calls.namespace import Attached, Namespace
from tally.client._threads.client import Client as Threaded
from tally.client._threads.derived import is_iterator, public_names

PAGE = Path(__file__).parents[1] / "libs" / "tally" / "tally" / "client" / "blocking.pyi"
_HEAD = "# Made by `make docs` from the asynchronous client; a test fails when it is old.\n\n"
_SPECIAL = ("__init__", "__enter__", "__exit__")
_IN_ANNOTATIONS = {"AsyncGenerator": "Generator", "AsyncIterable": "Iterable", "AsyncIterator": "Iterator"}
_RUFF = Path(sys.executable).with_name("ruff")


class Stub:
    """The text, and what it has to import."""

    def __init__(self) -> None:
        self.imports: dict[str, str] = {}
        """the statement for each name"""

    def class_of(self, name: str, attributes: Iterator[tuple[str, Any]]) -> str:
        """A class with the attributes of other classes."""
        return f"class {name}:\n" + "".join(
            indent(self._attribute(each, value), "    ") for each, value in attributes
        )

    def _attribute(self, name: str, value: Any) -> str:
        if isinstance(value, Attached):
            return f"@property\ndef {name}(self) -> {part_name(value.of)}: ...\n"
        if isinstance(value, property) and value.fget is not None:
            return f"@property\n{self._function(name, value.fget)}"
        return self._function(name, value)

    def _function(self, name: str, function: Callable[..., Any]) -> str:
        inner = inspect.unwrap(function)
        (found,) = ast.parse(dedent(inspect.getsource(inner))).body
        if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
            raise TypeError(f"{name} is no function")
        arguments = found.args
        arguments.defaults = [_default(each) for each in arguments.defaults]
        arguments.kw_defaults = [each and _default(each) for each in arguments.kw_defaults]
        is_derived = isinstance(found, ast.AsyncFunctionDef) or is_iterator(inner)
        for node in ast.walk(found):
            if isinstance(node, ast.arg) and node.annotation:
                node.annotation = self._annotation(node.annotation, inner, is_derived=is_derived)
        returns = found.returns and self._annotation(found.returns, inner, is_derived=is_derived)
        return f"def {name}({ast.unparse(arguments)}) -> {ast.unparse(returns) if returns else 'None'}: ...\n"

    def _annotation(self, node: ast.expr, inside: Callable[..., Any], *, is_derived: bool) -> ast.expr:
        """The annotation as in the source, with its imports; without asynchronous types if it is derived."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        for each in ast.walk(node):
            if isinstance(each, ast.Subscript) and ast.unparse(each.value) == "AsyncGenerator":
                each.slice = _first(each.slice)  # what is sent into a generator, and returned by it, is None
            if not isinstance(each, ast.Name):
                continue
            if is_derived and each.id in _IN_ANNOTATIONS:
                each.id = _IN_ANNOTATIONS[each.id]
                self._import(each.id, f"from collections.abc import {each.id}")
            elif each.id in inside.__globals__:
                self._import(each.id, _import_of(each.id, inside))
        return _without_repetition(node)

    def _import(self, name: str, statement: str) -> None:
        if self.imports.setdefault(name, statement) != statement:
            raise ValueError(f"{name} is two things: {self.imports[name]}; {statement}")


def client_stub() -> str:
    """The file `blocking.pyi`."""
    stub = Stub()
    parts = [
        stub.class_of(part_name(of), ((each, inspect.getattr_static(of, each)) for each in public_names(of)))
        for of in _namespaces()
    ]
    client = stub.class_of("Client", _attributes())
    text = _HEAD + "\n".join([*stub.imports.values(), "", *parts, client])
    for command in (("check", "--fix-only", "--select", "I", "-q"), ("format", "-q")):
        text = subprocess.run(  # noqa: S603 - constants
            [_RUFF, *command, "--stdin-filename", str(PAGE), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def part_name(of: type) -> str:
    """The name of the namespace's class for threads."""
    return f"_{of.__name__}"


def _namespaces() -> Iterator[type[Namespace]]:
    for name in public_names(Asynchronous):
        value = inspect.getattr_static(Asynchronous, name)
        if isinstance(value, Attached):
            yield value.of


def _attributes() -> Iterator[tuple[str, Any]]:
    """Those that are written for threads, and those that are derived."""
    written = vars(Threaded)
    for name in (*_SPECIAL, *public_names(Threaded)):
        of_another = inspect.getattr_static(Asynchronous, name, None)
        is_derived = isinstance(of_another, Attached) or hasattr(written[name], "__wrapped__")
        yield name, of_another if is_derived else written[name]


def _default(value: ast.expr) -> ast.expr:
    return value if isinstance(value, ast.Constant) else ast.Constant(...)


def _first(node: ast.expr) -> ast.expr:
    return node.elts[0] if isinstance(node, ast.Tuple) else node


def _import_of(name: str, inside: Callable[..., Any]) -> str:
    """The statement that makes a name of a function's module known elsewhere."""
    module = sys.modules[inside.__module__]
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for each in node.names:
                if (each.asname or each.name) == name:
                    return ast.unparse(
                        ast.Import([each])
                        if isinstance(node, ast.Import)
                        else ast.ImportFrom(node.module, [each], 0)
                    )
    return f"from {module.__name__} import {name}"


def _without_repetition(node: ast.expr) -> ast.expr:
    """`Iterable[T] | Iterable[T]` once."""
    if isinstance(node, ast.BinOp) and ast.unparse(node.left) == ast.unparse(node.right):
        return node.left
    return node


if __name__ == "__main__":
    replace_file(PAGE, client_stub())
