"""`tally catalog lists`: who is in which list."""

from collections.abc import Sequence

from services.cli.terminal.calling import call
from tally.client import Client


def add(address: str, key: str, ids: Sequence[str]) -> list[str]:
    """Add ids; lines about them. Raises Failure."""
    done = call(address, lambda client: client.catalog.add_to_list(key, ids))
    line = f"{key}: {done.added_count} added, {done.moved_count} moved"
    if done.dropped_count:
        line += f", {done.dropped_count} of the oldest dropped"
    return [f"{line}, change {done.change}", *_missing(done.missing_ids)]


def remove(address: str, key: str, ids: Sequence[str]) -> list[str]:
    """Remove ids; a line about them. Raises Failure."""
    done = call(address, lambda client: client.catalog.remove_from_list(key, ids))
    return [f"{key}: {done.removed_count} removed, change {done.change}"]


def replace(address: str, key: str, ids: Sequence[str]) -> list[str]:
    """Replace all of them; lines about them. Raises Failure."""
    done = call(address, lambda client: client.catalog.replace_list(key, ids))
    line = f"{key}: {done.added_count} added, {done.removed_count} removed, change {done.change}"
    return [line, *_missing(done.missing_ids)]


def read_memberships(address: str, resource_id: str) -> list[str]:
    """The lists that a resource is in, a line for each. Raises Failure."""

    async def read(client: Client) -> list[str]:
        lines: list[str] = []
        after = ""
        while True:
            page = await client.catalog.memberships(resource_id, after=after)
            lines += [f"{each.list}  {each.add_time.ToJsonString()}" for each in page.memberships]
            if not page.has_more:
                return lines
            after = page.memberships[-1].list

    return call(address, read)


def _missing(ids: Sequence[str]) -> list[str]:
    return [f"not stored, and shown as soon as they are: {' '.join(ids)}"] if ids else []
