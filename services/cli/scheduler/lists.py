"""Lists that the scheduler gives in pages."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tally.client.scheduler import Page

T = TypeVar("T")

LARGEST_PAGE = 1_000


async def read_all(read: Callable[[int, str], Awaitable[Page[T]]], limit: int | None = None) -> list[T]:
    """The whole list, or its beginning; `read` gets the size of a page, and the token of the page before."""
    found: list[T] = []
    token = ""
    while True:
        page = await read(LARGEST_PAGE if limit is None else min(limit - len(found), LARGEST_PAGE), token)
        found += page.items
        token = page.next_page_token
        if not token or (limit is not None and len(found) >= limit):
            return found
