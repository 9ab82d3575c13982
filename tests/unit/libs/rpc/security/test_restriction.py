"""What a restricted caller may count and read: a table of requests."""

import pytest
from google.protobuf.message import Message

from libs.rpc.security.callers import Restriction
from libs.rpc.security.restriction import can_be_checked, check_request
from tally.contract.errors import PermissionDenied
from tally.ingest.v1 import ingest_pb2 as ingest
from tally.query.v1 import query_pb2 as query

OWN = Restriction("a/", frozenset({"view", "like"}))
_INGEST, _QUERY = "/tally.ingest.v1.IngestService/", "/tally.query.v1.QueryService/"


def events(*pairs: tuple[str, str]) -> ingest.ProcessEventsRequest:
    return ingest.ProcessEventsRequest(
        events=[ingest.Event(video_id=video, event_type=kind) for video, kind in pairs]
    )


def columns(videos: list[str], types: list[str]) -> ingest.ProcessEventsRequest:
    return ingest.ProcessEventsRequest(columns=ingest.EventColumns(video_ids=videos, event_types=types))


GOOD: list[tuple[str, Message]] = [
    (f"{_INGEST}CountViewEvent", ingest.CountViewEventRequest(video_id="a/1")),
    (f"{_INGEST}CountEvent", ingest.CountEventRequest(video_id="a/1", event_type="like")),
    (f"{_INGEST}ProcessEvent", ingest.ProcessEventRequest(event=events(("a/1", "view")).events[0])),
    (f"{_INGEST}ProcessEvents", events(("a/1", "view"), ("a/2", "like"))),
    (f"{_INGEST}ProcessEvents", columns(["a/1", "a/2"], ["view"])),
    (f"{_INGEST}StreamEvents", ingest.StreamEventsRequest(batch=columns(["a/1"], ["view"]))),
    (f"{_QUERY}GetViewsCount", query.GetViewsCountRequest(video_id="a/1")),
    (f"{_QUERY}GetCount", query.GetCountRequest(video_id="a/1", event_type="like")),
    (f"{_QUERY}GetStats", query.GetStatsRequest(video_id="a/1", event_type="view")),
]
BAD: list[tuple[str, Message]] = [
    (f"{_INGEST}CountViewEvent", ingest.CountViewEventRequest(video_id="b/1")),
    (f"{_INGEST}CountViewEvent", ingest.CountViewEventRequest()),
    (f"{_INGEST}CountEvent", ingest.CountEventRequest(video_id="a/1", event_type="comment")),
    (f"{_INGEST}ProcessEvent", ingest.ProcessEventRequest(event=events(("b/1", "view")).events[0])),
    (f"{_INGEST}ProcessEvents", events(("a/1", "view"), ("b/2", "like"))),
    (f"{_INGEST}ProcessEvents", events(("a/1", "view"), ("a/2", "comment"))),
    (f"{_INGEST}ProcessEvents", columns(["a/1", "b/2"], ["view"])),
    (f"{_INGEST}ProcessEvents", columns(["a/1"], ["view", "comment"])),
    (f"{_INGEST}StreamEvents", ingest.StreamEventsRequest(batch=columns(["b/1"], ["view"]))),
    (f"{_QUERY}GetViewsCount", query.GetViewsCountRequest(video_id="b/1")),
    (f"{_QUERY}GetCount", query.GetCountRequest(video_id="b/1", event_type="like")),
    (f"{_QUERY}GetCount", query.GetCountRequest(video_id="a/1", event_type="comment")),
    (f"{_QUERY}GetStats", query.GetStatsRequest(video_id="b/1", event_type="view")),
]


@pytest.mark.parametrize(("method", "request_"), GOOD)
def test_what_is_within_the_restriction_passes(method: str, request_: Message) -> None:
    check_request(method, request_, OWN)


@pytest.mark.parametrize(("method", "request_"), BAD)
def test_what_is_outside_of_it_is_refused(method: str, request_: Message) -> None:
    with pytest.raises(PermissionDenied) as caught:
        check_request(method, request_, OWN)
    assert caught.value.reason == "OUTSIDE_RESTRICTION"


def test_views_are_a_type_of_events() -> None:
    with pytest.raises(PermissionDenied):
        check_request(
            f"{_INGEST}CountViewEvent",
            ingest.CountViewEventRequest(video_id="a/1"),
            Restriction("", frozenset({"like"})),
        )


def test_every_method_that_counts_can_be_checked() -> None:
    """One more that writes events must be added to the table, or restricted callers cannot use it."""
    service = ingest.DESCRIPTOR.services_by_name["IngestService"]
    unchecked = [each.name for each in service.methods if not can_be_checked(f"{_INGEST}{each.name}")]
    assert unchecked == ["GetPartitionMap"]
