"""`tally catalog find`: a page as a table, or as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.cli.catalog.viewers import read_viewer
from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console
from tally.catalog.v1 import find_pb2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command was given."""

    sets: Sequence[str]
    exclude: Sequence[str]
    viewer: str
    in_list: str
    sort: str
    ascending: bool
    limit: int
    page: str
    total: bool
    facets: Sequence[str]


def find(address: str, wanted: Wanted, *, as_json: bool) -> None:
    """Find and print. Raises Failure."""
    filters = [find_pb2.Filter(any=each.split(",")) for each in wanted.sets]
    filters += [find_pb2.Filter(any=each.split(","), exclude=True) for each in wanted.exclude]
    request = find_pb2.FindRequest(
        viewer=read_viewer(wanted.viewer),
        filters=filters,
        list=wanted.in_list,
        everything=not wanted.sets and not wanted.in_list,
        sort=wanted.sort,
        ascending=wanted.ascending,
        page_size=wanted.limit,
        page_token=wanted.page,
        total=wanted.total,
        facets=wanted.facets,
    )
    page = call(address, lambda client: client.catalog.find(request))
    if as_json:
        print(json.dumps(_to_json(page), indent=2, ensure_ascii=False))  # noqa: T201 - the answer of the command
    else:
        _show(page, wanted)


def _show(page: find_pb2.FindResponse, wanted: Wanted) -> None:
    console = open_console()
    table = make_table(
        console, "Found", "id", f"#{wanted.sort or ('added' if wanted.in_list else 'id')}", "title"
    )
    for item in page.items:
        score = "-" if math.isnan(item.score) else f"{item.score:,.15g}"
        table.add_row(item.id, score, str(json.loads(item.details).get("title", "")))
    console.print(table)
    for facet in page.facets:
        counts = ", ".join(f"{value.value} {value.count:,}" for value in facet.values)
        console.print(f"{facet.name}: {counts or 'no values'}")
    if page.HasField("total"):
        console.print(f"{page.total:,} in all")
    if page.order_changed:
        console.print("The order has changed since the first page: items may be missing or come twice.")
    if page.has_more:
        console.print(f"There are more: --page {page.next_page_token}")


def _to_json(page: find_pb2.FindResponse) -> dict[str, Any]:
    return {
        "items": [
            {
                "id": item.id,
                "score": None if math.isnan(item.score) else item.score,
                "details": json.loads(item.details),
            }
            for item in page.items
        ],
        "total": page.total if page.HasField("total") else None,
        "facets": {facet.name: {value.value: value.count for value in facet.values} for facet in page.facets},
        "next_page_token": page.next_page_token,
        "order_changed": page.order_changed,
        "change": page.change,
        "plan": {
            "strategy": page.plan.strategy,
            "steps": page.plan.steps,
            "sets_us": page.plan.sets_us,
            "details_us": page.plan.details_us,
            "repeats": page.plan.repeats,
        },
    }
