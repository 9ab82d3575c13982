"""The statements of each service as they are written: whose tables they read, and whose they change."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import services
from services.registry import BY_NAME, SERVICES, Service

_FOLDER = Path(services.__file__).parent
_TABLE = re.compile(r"(?:^|\b(?:from|join|into|update|table|only|like|on|partition)\s+)([a-z]+)\.[a-z_{]+")
_CHANGED = re.compile(
    r"\b(?:insert\s+into|delete\s+from|update|truncate|(?:alter|create|drop|lock)\s+table|partition)\s+"
    r"([a-z]+)\.[a-z_{]+"
)


def strings_of(service: Service) -> Iterator[str]:
    """Every string in a service's modules; its statements are among them."""
    for path in sorted((_FOLDER / service.name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize("name", BY_NAME)
def test_a_service_changes_its_own_tables_and_reads_those_of_the_services_that_it_declares(name: str) -> None:
    service = BY_NAME[name]
    schemas = {"public", *BY_NAME}
    named = {schema for text in strings_of(service) for schema in _TABLE.findall(text)} & schemas
    changed = {schema for text in strings_of(service) for schema in _CHANGED.findall(text)} & schemas
    assert named - {name, "public"} == service.reads
    assert changed <= {name}


def test_the_statements_are_found() -> None:
    found = {
        service.name
        for service in SERVICES
        if any(service.name in _CHANGED.findall(text) for text in strings_of(service))
    }
    assert found == {"counting", "replication", "catalog", "scheduler", "backfill"}
