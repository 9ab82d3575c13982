"""A catalog for tests: types, viewers, rules, and short ways to put and find."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tally.catalog.v1 import find_pb2, resource_pb2, rights_pb2
from tally.client import Client
from tally.client.catalog import Catalog

VIDEO = resource_pb2.Type(
    suffix="v",
    name="video",
    required=["/title"],
    parent="/container",
    children="videos",
    indexes={"t": "/type", "genre": "/genres/*"},
    sorts=["/views", "/created_at"],
)
CONTAINER = resource_pb2.Type(suffix="c", name="container", required=["/title"], indexes={"t": "/type"})
US = rights_pb2.Viewer(country="us", application="48", platform="mobile")
CA = rights_pb2.Viewer(country="ca", application="48", platform="mobile")


def video(number: int, **details: Any) -> bytes:
    """Details of a video."""
    return json.dumps({"title": f"Video {number}", **details}).encode()


def rule(*, allow: bool = False, priority: int = 1, **fields: Any) -> rights_pb2.Rule:
    """A rule; it denies unless told otherwise."""
    return rights_pb2.Rule(allow=allow, priority=priority, **fields)


def at(time_us: int) -> datetime:
    """An instant as a protobuf field takes it."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC)


async def prepare(client: Client) -> Catalog:
    """The types and codes that the tests use."""
    catalog = client.catalog
    for each in (CONTAINER, VIDEO):
        await catalog.put_type(each)
    await catalog.put_dimension("application", ["48", "web"])
    await catalog.put_dimension("platform", ["mobile", "tv"])
    return catalog


async def find(
    client: Client,
    *keys: str,
    viewer: rights_pb2.Viewer = US,
    filters: Sequence[find_pb2.Filter] = (),
    **fields: Any,
) -> find_pb2.FindResponse:
    """A find among the sets `keys`, or among everything."""
    chosen = [find_pb2.Filter(any=[key]) for key in keys]
    chosen += filters
    is_open = all(each.exclude for each in chosen)
    request = find_pb2.FindRequest(viewer=viewer, filters=chosen, everything=is_open, **fields)
    return await client.catalog.find(request)


async def find_ids(client: Client, *keys: str, **fields: Any) -> list[str]:
    """The ids of a find."""
    return [item.id for item in (await find(client, *keys, **fields)).items]
