"""Details: a JSON object that is checked once, when it is stored, and returned unchanged."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

MAX_BYTES = 64 * 1024
MAX_DEPTH = 64
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def parse_details(data: bytes) -> dict[str, Any]:
    """The object. Raises ValueError, with a sentence about what is wrong."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"must be at most {MAX_BYTES:,} bytes, and has {len(data):,}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("must be UTF-8") from error
    _check_depth(text)
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


def resolve(document: Any, pointer: str) -> Iterator[Any]:
    """What a JSON pointer (RFC 6901) leads to; `*` stands for each element of an array. null is nothing."""
    return _resolve(document, pointer.split("/")[1:])


def check_pointer(pointer: str) -> bool:
    """Whether it is a JSON pointer to something inside of a document."""
    return pointer.startswith("/") and len(pointer) > 1


def _resolve(found: Any, parts: Sequence[str]) -> Iterator[Any]:
    if not parts:
        if found is not None:
            yield found
        return
    part = parts[0].replace("~1", "/").replace("~0", "~")
    if isinstance(found, dict):
        if part in found:
            yield from _resolve(found[part], parts[1:])
    elif isinstance(found, list):
        if part == "*":
            for each in found:
                yield from _resolve(each, parts[1:])
        elif part.isdecimal() and part.isascii() and int(part) < len(found):
            yield from _resolve(found[int(part)], parts[1:])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the name {twice!r} twice in one object")
    return found


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"must be JSON, which has no {constant}")


def _check_depth(text: str) -> None:
    """Before it is parsed: the parser recurses."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"must not be nested more than {MAX_DEPTH} deep")
