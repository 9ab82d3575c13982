"""`tally catalog types`: a TOML file of types, applications and platforms."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError

from services.cli.terminal.calling import call
from services.cli.terminal.failure import USAGE, Failure
from tally.catalog.v1 import resource_pb2
from tally.client import Client

_DIMENSIONS = {"applications": "application", "platforms": "platform"}


def put_types(address: str, file: Path) -> list[str]:
    """Store what the file has; a line for each thing. Raises Failure."""
    content = _read(file)
    types = [_type_of(each, file) for each in content.pop("type", [])]
    codes = {kind: content.pop(name, None) for name, kind in _DIMENSIONS.items()}
    if content:
        raise Failure(
            f"{file}: {', '.join(content)} is none of type, {', '.join(_DIMENSIONS)}; see --help", USAGE
        )

    async def put(client: Client) -> list[str]:
        lines = []
        for kind, each in codes.items():
            if each is not None:
                change = await client.catalog.put_dimension(kind, each)
                lines.append(f"{kind}: {' '.join(each)} (change {change})")
        for new in types:
            change = await client.catalog.put_type(new)
            lines.append(f"type {new.name} (change {change})")
        return lines

    return call(address, put)


def list_types(address: str) -> list[str]:
    """Each type as a line of JSON. Raises Failure."""

    async def read(client: Client) -> list[str]:
        found = await client.catalog.list_types()
        return [MessageToJson(each, indent=None, preserving_proto_field_name=True) for each in found]

    return call(address, read)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", USAGE) from error
    except ValueError as error:
        raise Failure(f"{file} is no TOML: {error}", USAGE) from error


def _type_of(fields: Mapping[str, Any], file: Path) -> resource_pb2.Type:
    try:
        return ParseDict(
            {**fields, "lists": [_list_of(each) for each in fields.get("lists", [])]}, resource_pb2.Type()
        )
    except ParseError as error:
        raise Failure(f"{file}: a type cannot be read: {error}", USAGE) from error


def _list_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`add_again` is written keep or move."""
    again = fields.get("add_again", "keep")
    return {**fields, "add_again": f"ADD_AGAIN_{again.upper()}" if again in ("keep", "move") else again}
