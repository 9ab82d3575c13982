"""The feed for others: number, kind and subject of each change, in order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from libs.stores.postgres import reaching_postgres
from services.catalog.feed import check_change, read_head, read_page
from tally.catalog.v1 import resource_pb2 as pb

_PAGE = 1_000
_KINDS = {
    "put": pb.CHANGE_KIND_RESOURCE_PUT,
    "deleted": pb.CHANGE_KIND_RESOURCE_DELETED,
    "rules": pb.CHANGE_KIND_RULES,
    "type": pb.CHANGE_KIND_TYPE,
    "dimension": pb.CHANGE_KIND_DIMENSION,
    "list": pb.CHANGE_KIND_LIST,
}


class Watching:
    """Streams the changes behind one. Whole changes only: a caller continues behind the last number received."""

    def __init__(self, pool: Any, look_seconds: float) -> None:
        self._pool = pool
        self._look_seconds = look_seconds

    async def watch(self, after: int) -> AsyncIterator[pb.WatchChangesResponse]:
        """Every change behind `after`, without end. Raises ChangeOutOfRange where some of them are not kept."""
        while True:
            with reaching_postgres():
                head = await read_head(self._pool)
                if after:
                    check_change(after, head, "after", needs_kept=True)
                else:
                    after = head.kept_after
                found = await read_page(self._pool, after, head.change, _PAGE)
                if found and len(found) == _PAGE:
                    # The last change may be cut off: read all of it.
                    last = found[-1][0]
                    found = [each for each in found if each[0] < last]
                    found += await read_page(self._pool, last - 1, last, 10 * _PAGE)
            for change, kind, subject in found:
                yield pb.WatchChangesResponse(change=change, kind=_KINDS[kind], subject=subject)
                after = change
            if not found:
                await asyncio.sleep(self._look_seconds)
