"""`tally catalog get`, `put`, `delete` and `keys`: one resource."""

import json
import sys

from services.cli.catalog.viewers import read_viewer
from services.cli.terminal.calling import call
from services.cli.terminal.failure import Failure


def get(address: str, resource_id: str, viewer: str | None) -> str:
    """The resource as JSON. Raises Failure."""
    who = None if viewer is None else read_viewer(viewer)
    found = call(address, lambda client: client.catalog.get(resource_id, viewer=who))
    resource = found.resource
    return json.dumps(
        {
            "id": resource.id,
            "external_id": resource.external_id,
            "version": resource.version,
            "parent": found.parent,
            "sets": list(found.keys),
            "created": found.create_time.ToJsonString(),
            "updated": found.update_time.ToJsonString(),
            "details": json.loads(resource.details),
        },
        indent=2,
        ensure_ascii=False,
    )


def put(address: str, resource_id: str, details: str, external_id: str, version: int | None) -> str:
    """Store a resource; a line about it. Raises Failure."""
    data = (sys.stdin.read() if details == "-" else details).encode()
    answer = call(
        address,
        lambda client: client.catalog.put(
            resource_id, data, external_id=external_id, expected_version=version
        ),
    )
    return f"{resource_id}: {'stored' if answer.changed else 'as it was'}, version {answer.version}"


def delete(address: str, resource_id: str, children: str) -> str:
    """Remove a resource; a line about it. Raises Failure."""
    change = call(
        address, lambda client: client.catalog.delete(resource_id, everywhere=True, children=children)
    )
    return f"{resource_id}: removed by change {change}" if change else f"{resource_id} was not there"


def read_keys(address: str, resource_id: str) -> list[str]:
    """The keys of a resource in Valkey, a line for each. Raises Failure."""
    found = call(address, lambda client: client.catalog.keys(resource_id))
    if not found.keys:
        raise Failure(f"Valkey holds nothing of {resource_id}; the projection is: {found.projection_state}")
    return [f"{each.key}  {each.content}" for each in found.keys]
