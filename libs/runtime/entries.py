"""The handle of a shard: entries of the same process reach its queue without being encoded."""

import asyncio
from collections.abc import Callable, Sequence

from libs.domain.entry import Entry, Outcome
from libs.runtime.handles import Handle

Enqueue = Callable[[Sequence[Entry]], list[asyncio.Future[Outcome]]]
"""Queues entries for a shard's journal, all or none; the outcome of each, in order. Raises Overloaded when there is no
room, and Unavailable while there is neither a log nor a spool."""

ENQUEUE: Handle[Enqueue] = Handle("entries")
