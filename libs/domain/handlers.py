"""The table of handlers: what scheduler and workers must agree on for each."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HandlerKind:
    """What a handler can work on, and how much of it in one call."""

    populations: frozenset[str]
    max_batch: int


HANDLERS: Mapping[str, HandlerKind] = {
    # YouTube's videos.list takes 50 ids in practice, and videos.batchGetStats says so.
    "metadata": HandlerKind(frozenset({"youtube_video"}), max_batch=50),
    # A call fetches one repository; the batch is what is reported together, once all of it is stored.
    "fetch_repo": HandlerKind(frozenset({"repo"}), max_batch=1_000),
}
