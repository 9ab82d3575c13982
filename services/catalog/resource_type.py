"""Types are data: the required details of a resource, and the sets and sorts that follow from them."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.catalog.details import check_pointer, resolve
from services.catalog.ids import WHAT_AN_ID_IS, is_id
from services.catalog.list_kind import CURATED, ListKind
from tally.contract.errors import Violation

MAX_KEYS = 100
MAX_VALUE_BYTES = 128
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_SUFFIX = re.compile(r"[a-z]", re.ASCII)
# Names of sets that are not indexes.
_RESERVED = frozenset({CURATED, "network", "i", "x"})
WHAT_A_NAME_IS = "must be a letter from a to z and up to 31 more of a-z, 0-9 and _"


@dataclass(frozen=True, slots=True)
class Indexed:
    """What follows from the details of a resource."""

    parent: str | None = None
    keys: tuple[str, ...] = ()
    scores: tuple[float | None, ...] = ()
    """in the order of the type's sorts"""
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type; see the fields of tally.catalog.v1.Type."""

    suffix: str
    name: str
    required: tuple[str, ...] = ()
    parent: str = ""
    children: str = ""
    inherits_holdbacks: bool = True
    indexes: Mapping[str, str] = field(default_factory=dict)
    sorts: tuple[str, ...] = ()
    lists: tuple[ListKind, ...] = ()

    @property
    def sort_names(self) -> tuple[str, ...]:
        """The names of its sorts: the pointers without their first slash."""
        return tuple(pointer[1:] for pointer in self.sorts)

    @property
    def layout(self) -> tuple[object, ...]:
        """What stored resources depend on."""
        return self.parent, self.children, tuple(sorted(self.indexes.items())), self.sorts

    def check(self) -> list[Violation]:
        """The violations of the type itself."""
        return list(_violations(self))

    def index(self, details: Mapping[str, Any]) -> Indexed:
        """Sets, parent and scores of a resource with these details."""
        wrong = [
            Violation(f"details{pointer}", f"is required by the type {self.name}")
            for pointer in self.required
            if next(resolve(details, pointer), None) is None
        ]
        parent = self._read_parent(details, wrong)
        keys = {f"{parent}:{self.children}"} if parent is not None else set()
        for name, pointer in self.indexes.items():
            for value in resolve(details, pointer):
                try:
                    keys.add(f"{name}:{read_value(value)}")
                except ValueError as error:
                    wrong.append(Violation(f"details{pointer}", f"cannot be indexed: it {error}"))
        if len(keys) > MAX_KEYS:
            wrong.append(
                Violation("details", f"would be in {len(keys)} sets; {MAX_KEYS} at most are possible")
            )
        scores = []
        for pointer in self.sorts:
            try:
                scores.append(read_score(next(resolve(details, pointer), None)))
            except ValueError as error:
                wrong.append(Violation(f"details{pointer}", str(error)))
        return Indexed(parent, tuple(sorted(keys)), tuple(scores), tuple(wrong))

    def _read_parent(self, details: Mapping[str, Any], wrong: list[Violation]) -> str | None:
        found = next(resolve(details, self.parent), None) if self.parent else None
        if found is None:
            return None
        if not isinstance(found, str) or not is_id(found):
            wrong.append(Violation(f"details{self.parent}", WHAT_AN_ID_IS))
            return None
        return found


def read_value(value: Any) -> str:
    """The value of an index as a key has it. Raises ValueError."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("is neither a text nor a whole number nor true or false")
    check_value(value)
    return value


def check_value(value: str) -> None:
    """Raises ValueError for what is no value of an index."""
    if not value or len(value.encode()) > MAX_VALUE_BYTES:
        raise ValueError(f"must have 1 to {MAX_VALUE_BYTES} bytes")
    if not value.isprintable():
        raise ValueError("must have printable characters only")


def read_score(value: Any) -> float | None:
    """A number, or a time in RFC 3339 as seconds since 1970. Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            time = None
        if time is None or time.tzinfo is None:
            raise ValueError("must be a number, or a time with its zone: 2017-09-20T12:30:00Z")
        return time.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number, or a time with its zone: 2017-09-20T12:30:00Z")
    try:
        score = float(value)
    except OverflowError:
        score = math.inf
    if not math.isfinite(score):
        raise ValueError("must be a number that a double can hold")
    return score + 0.0  # one zero, not two


def is_name(text: str) -> bool:
    """Whether it can be the name of an index, of a type or of a set of children."""
    return _NAME.fullmatch(text) is not None


def _violations(of: ResourceType) -> Iterator[Violation]:
    if not _SUFFIX.fullmatch(of.suffix):
        yield Violation("type.suffix", "must be a letter from a to z")
    if not is_name(of.name):
        yield Violation("type.name", WHAT_A_NAME_IS)
    if bool(of.parent) != bool(of.children):
        yield Violation("type.children", "must be given with `parent`, and only with it")
    if of.children and not is_name(of.children):
        yield Violation("type.children", WHAT_A_NAME_IS)
    reserved = ", ".join(sorted(_RESERVED))
    for name in of.indexes:
        if not is_name(name) or name in _RESERVED:
            yield Violation("type.indexes", f"{name!r}: a name {WHAT_A_NAME_IS}; reserved are {reserved}")
    yield from _wrong_lists(of)
    yield from _wrong_pointers(of)


def _wrong_lists(of: ResourceType) -> Iterator[Violation]:
    for kind in of.lists:
        if not is_name(kind.name) or kind.name == of.children:
            yield Violation("type.lists", f"{kind.name!r}: a name {WHAT_A_NAME_IS}, and not that of children")
        if kind.limit < 0:
            yield Violation("type.lists", f"the limit of {kind.name!r} must not be negative")
    if len({kind.name for kind in of.lists}) < len(of.lists):
        yield Violation("type.lists", "must not have a name twice")


def _wrong_pointers(of: ResourceType) -> Iterator[Violation]:
    pointers: Sequence[tuple[str, Sequence[str]]] = (
        ("required", of.required),
        ("parent", [of.parent] if of.parent else []),
        ("indexes", list(of.indexes.values())),
        ("sorts", of.sorts),
    )
    for field_name, each in pointers:
        for pointer in each:
            if not check_pointer(pointer):
                yield Violation(f"type.{field_name}", f"{pointer!r} must be a JSON pointer: /title")
    if len(set(of.sorts)) < len(of.sorts):
        yield Violation("type.sorts", "must not name a pointer twice")
    if "id" in of.sort_names:
        yield Violation("type.sorts", "must not have /id: the order by id is always there")
