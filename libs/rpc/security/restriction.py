"""What a caller with a restriction may count and read: videos with a prefix, and some types of events.

Pure. Only the methods below can be checked; a restricted caller may call no others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from libs.rpc.security.callers import Restriction
from tally.contract.errors import PermissionDenied
from tally.contract.rules import VIEW

REASON = "OUTSIDE_RESTRICTION"

Names = Iterable[str]


def _of_view(request: Any) -> tuple[Names, Names]:
    return (request.video_id,), (VIEW,)


def _of_one(request: Any) -> tuple[Names, Names]:
    return (request.video_id,), (request.event_type,)


def _of_event(request: Any) -> tuple[Names, Names]:
    return _of_one(request.event)


def _of_events(request: Any) -> tuple[Names, Names]:
    """Rows and columns: of these all names of the dictionaries, whether an event has them or not."""
    columns = request.columns
    return (
        _each(columns.video_ids, (event.video_id for event in request.events)),
        _each(columns.event_types, (event.event_type for event in request.events)),
    )


def _of_batch(request: Any) -> tuple[Names, Names]:
    return _of_events(request.batch)


def _each(*names: Names) -> Iterator[str]:
    for some in names:
        yield from some


_INGEST, _QUERY = "/tally.ingest.v1.IngestService", "/tally.query.v1.QueryService"
_NAMES: Mapping[str, Callable[[Any], tuple[Names, Names]]] = {
    f"{_INGEST}/CountViewEvent": _of_view,
    f"{_INGEST}/CountEvent": _of_one,
    f"{_INGEST}/ProcessEvent": _of_event,
    f"{_INGEST}/ProcessEvents": _of_events,
    f"{_INGEST}/StreamEvents": _of_batch,
    f"{_QUERY}/GetViewsCount": _of_view,
    f"{_QUERY}/GetCount": _of_one,
    f"{_QUERY}/GetStats": _of_one,
}


def can_be_checked(method: str) -> bool:
    """Whether a restricted caller may call `/service/method` at all."""
    return method in _NAMES


def check_request(method: str, request: Any, restriction: Restriction) -> None:
    """Raises PermissionDenied when the request names a video or a type of event outside of the restriction."""
    video_ids, event_types = _NAMES[method](request)
    prefix, allowed = restriction.video_id_prefix, restriction.event_types
    if prefix and not all(video_id.startswith(prefix) for video_id in video_ids):
        raise PermissionDenied(
            f"every video id must begin with {prefix!r} for this caller; nothing was done", reason=REASON
        )
    if allowed is not None and not all(event_type in allowed for event_type in event_types):
        raise PermissionDenied(
            f"every event type must be one of {', '.join(sorted(allowed))} for this caller; nothing was done",
            reason=REASON,
        )
