"""`tally catalog rebuild` and `verify`: the projection in Valkey."""

import asyncio
from collections.abc import Iterator
from functools import partial

from services.cli.terminal.calling import call
from services.cli.terminal.failure import Failure
from tally.catalog.v1 import resource_pb2
from tally.client import Client

_LOOK_SECONDS = 0.2
_COMPLETE = "complete"
_STOPPED = ("stopped", "not written", "off")


def rebuild(address: str) -> str:
    """Have it rebuilt; a line when it is complete. Raises Failure."""

    async def run(client: Client) -> resource_pb2.GetCatalogStatusResponse:
        change = await client.catalog.rebuild_projection()
        while True:
            found = await client.catalog.status()
            is_done = found.projection_state == _COMPLETE and found.projected_change >= change
            if is_done or found.projection_state.startswith(_STOPPED):
                return found
            await asyncio.sleep(_LOOK_SECONDS)

    found = call(address, run)
    if found.projection_state != _COMPLETE:
        raise Failure(f"the projection is {found.projection_state}")
    return f"built anew, change {found.projected_change}"


def verify(address: str) -> Iterator[str]:
    """Lines about what is wrong, and one about all of it. Raises Failure when something is wrong."""
    resources = keys = problems = 0
    cursor = ""
    while True:
        found = call(address, partial(_verify, cursor))
        resources, keys = resources + found.resource_count, keys + found.key_count
        problems += len(found.problems)
        yield from (f"{each.key}  {each.description}" for each in found.problems)
        cursor = found.next_cursor
        if not cursor:
            break
    what = f"{resources:,} resources and {keys:,} keys compared"
    if problems:
        raise Failure(f"{what}: {problems:,} things are wrong; `tally catalog rebuild` mends them")
    yield f"{what}: all as in the record"


async def _verify(cursor: str, client: Client) -> resource_pb2.VerifyProjectionResponse:
    return await client.catalog.verify_projection(cursor)
