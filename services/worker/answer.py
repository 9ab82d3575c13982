"""Validates what a handler returned."""

from collections.abc import Sequence

from services.worker.handlers.handler import Item, Outcome, Result

MAX_DETAIL_CHARACTERS = 500


def check_results(items: Sequence[Item], returned: object) -> list[Result]:
    """One result for each item, in the order of the items.

    An item without a usable result failed in a way that another try may mend; results for other ids are dropped, and of
    two for one id the first counts.
    """
    found: dict[str, Result] = {}
    if isinstance(returned, Sequence):
        for each in returned:
            if isinstance(each, Result) and isinstance(each.outcome, Outcome):
                found.setdefault(each.id, each)
    missing = "the handler returned no result for this item"
    return [found.get(item.id) or Result(item.id, Outcome.RETRY, missing) for item in items]


def cut_detail(text: str) -> str:
    """The text as it may be reported."""
    return text if len(text) <= MAX_DETAIL_CHARACTERS else text[: MAX_DETAIL_CHARACTERS - 1] + "…"
