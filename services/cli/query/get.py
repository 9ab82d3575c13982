"""`tally get`."""

import json
from datetime import datetime

from services.cli.terminal.calling import call


def get(
    address: str,
    video_id: str,
    event_type: str,
    start: datetime | None,
    end: datetime | None,
    *,
    strong: bool,
    as_json: bool,
) -> str:
    """The count of one video and event type in [start, end), as a line to read or as JSON. Raises Failure."""
    found = call(
        address, lambda client: client.get_count(video_id, event_type, start=start, end=end, strong=strong)
    )
    if not as_json:
        return f"{found.count} {event_type} of {video_id}, as of {found.as_of.isoformat()}"
    return json.dumps(
        {
            "video_id": video_id,
            "event_type": event_type,
            "start_time": start and start.isoformat(),
            "end_time": end and end.isoformat(),
            "count": found.count,
            "as_of": found.as_of.isoformat(),
        },
        ensure_ascii=False,
    )
