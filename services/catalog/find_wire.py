"""Finds and viewers: protobuf ↔ domain."""

import math
from collections.abc import Sequence

from services.catalog.finder import Answer
from services.catalog.ids import WHAT_AN_ID_IS, is_id
from services.catalog.order import BY_ID, MISSING
from services.catalog.page_token import read_token, write_token
from services.catalog.query import (
    DEFAULT_PAGE,
    MAX_FACETS,
    MAX_FILTERS,
    MAX_PAGE,
    MAX_VALUES,
    Filter,
    Page,
    Query,
)
from services.catalog.rule import Viewer
from services.catalog.times import read_time, write_time
from tally.catalog.v1 import find_pb2 as pb
from tally.catalog.v1 import rights_pb2
from tally.contract.errors import InvalidRequest, NotEnabled, Violation

_LOOKS_PAST = "this shows what is hidden now; it needs TALLY_CATALOG__RIGHTS__MAY_LOOK_PAST=true"


def read_viewer(message: rights_pb2.Viewer) -> Viewer:
    """The viewer of a message. Raises InvalidRequest."""
    viewer = Viewer(message.country.upper(), message.application, message.platform)
    if wrong := viewer.check():
        raise InvalidRequest(wrong)
    return viewer


def read_find(request: pb.FindRequest, *, may_look_past: bool) -> tuple[Query, Page]:
    """The query and the page of a request. Raises InvalidRequest and NotEnabled."""
    wrong = _violations(request)
    try:
        viewer = read_viewer(request.viewer)
    except InvalidRequest as error:
        wrong = [*error.violations, *wrong]
    if wrong:
        raise InvalidRequest(wrong)
    at_us = read_time(request.viewer, "at", "viewer.at")
    if (request.past_holdbacks or at_us is not None) and not may_look_past:
        raise NotEnabled(_LOOKS_PAST)
    query = Query(
        viewer,
        tuple(Filter(tuple(each.any), each.exclude) for each in request.filters),
        request.sort or BY_ID,
        request.ascending,
        at_us,
        request.past_holdbacks,
    )
    page = Page(
        request.page_size or DEFAULT_PAGE,
        read_token(request.page_token, query.fingerprint),
        request.total,
        tuple(request.facets),
    )
    return query, page


def read_explain(request: rights_pb2.ExplainRequest, *, may_look_past: bool) -> Query:
    """The query that a resource is to be explained for. Raises InvalidRequest and NotEnabled."""
    wrong = [] if is_id(request.id) else [Violation("id", WHAT_AN_ID_IS)]
    wrong += _wrong_sets(request.filters)
    if wrong:
        raise InvalidRequest(wrong)
    at_us = read_time(request.viewer, "at", "viewer.at")
    if at_us is not None and not may_look_past:
        raise NotEnabled(_LOOKS_PAST)
    return Query(
        read_viewer(request.viewer),
        tuple(Filter(tuple(each.any), each.exclude) for each in request.filters),
        request.sort or BY_ID,
        at_us=at_us,
    )


def write_find(answer: Answer, query: Query, form: pb.DetailsForm) -> pb.FindResponse:
    """The response of an answer. Resources whose details are gone have been deleted, and are left out."""
    is_in_items = form in (pb.DETAILS_FORM_UNSPECIFIED, pb.DETAILS_FORM_ITEMS)
    wants_details = form != pb.DETAILS_FORM_NONE
    found = answer.found
    items = [
        pb.Item(
            id=each,
            details=answer.details[each] if is_in_items else b"",
            score=math.nan if place[0] == MISSING else place[0],
        )
        for each, place in zip(answer.ids, found.places, strict=True)
        if not wants_details or each in answer.details
    ]
    response = pb.FindResponse(
        items=items,
        has_more=found.has_more,
        next_page_token=write_token(query.fingerprint, answer.next_cursor) if answer.next_cursor else "",
        total=found.total,
        facets=[
            pb.Facet(name=each.name, values=[pb.FacetValue(value=v, count=n) for v, n in each.counts])
            for each in found.facets
        ],
        plan=pb.Plan(
            strategy=found.strategy,
            steps=found.steps,
            sets_us=answer.sets_us,
            details_us=answer.details_us,
            repeats=answer.repeats,
        ),
        change=answer.change,
        as_of=write_time(answer.as_of_us),
        order_changed=found.order_changed,
    )
    if form == pb.DETAILS_FORM_ARRAY:
        response.json = b"[" + b",".join(answer.details[each.id] for each in items) + b"]"
    return response


def _violations(request: pb.FindRequest) -> list[Violation]:
    wrong = _wrong_filters(request)
    if request.list:
        wrong.append(Violation("list", "cannot be used yet: there are no lists"))
    if not 0 <= request.page_size <= MAX_PAGE:
        wrong.append(Violation("page_size", f"must be 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"))
    if len(request.facets) > MAX_FACETS:
        wrong.append(Violation("facets", f"must be at most {MAX_FACETS}, and are {len(request.facets)}"))
    if request.details not in pb.DetailsForm.values():
        wrong.append(Violation("details", f"is {request.details}, which is no form of this api"))
    if request.min_change < 0:
        wrong.append(Violation("min_change", "must not be negative"))
    return wrong


def _wrong_sets(filters: Sequence[pb.Filter | rights_pb2.ExplainedFilter]) -> list[Violation]:
    wrong = []
    if len(filters) > MAX_FILTERS:
        wrong.append(Violation("filters", f"must be at most {MAX_FILTERS}, and are {len(filters)}"))
    for index, each in enumerate(filters[:MAX_FILTERS]):
        if not 1 <= len(each.any) <= MAX_VALUES:
            wrong.append(Violation(f"filters[{index}].any", f"must be 1 to {MAX_VALUES} sets"))
    return wrong


def _wrong_filters(request: pb.FindRequest) -> list[Violation]:
    wrong = _wrong_sets(request.filters)
    is_open = all(each.exclude for each in request.filters)
    if is_open and not request.everything:
        wrong.append(
            Violation("everything", "must be set to find without a filter; a find may also name a set")
        )
    if not is_open and request.everything:
        wrong.append(Violation("everything", "must not be set together with a filter that names sets"))
    return wrong
