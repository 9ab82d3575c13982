"""Channels and videos of the data set, channels first, with ids in the order of the file."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadtests.demo.dataset import read_dataset

DATA = Path(__file__).parents[1] / "data" / "youtube_trending_us_2017.csv"


def read_resources(file: Path) -> Iterator[dict[str, Any]]:
    """Each resource as `tally catalog load` takes it. Raises what `read_dataset` does."""
    rows = read_dataset(file).rows
    with file.open(encoding="utf-8", newline="") as text:
        lines = {line["video_id"]: line for line in csv.DictReader(text)}
    channels: dict[str, str] = {}
    videos: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = lines[row.video_id]
        channel = channels.setdefault(line["channel_title"], f"{len(channels) + 1}c")
        known = videos.setdefault(row.video_id, {"created_at": f"{row.day}T00:00:00Z", "views": 0})
        known |= {
            "title": row.title,
            "type": "clips",
            "container": channel,
            "genres": [int(line["category_id"])],
            "views": max(known["views"], row.views),
        }
    for title, channel in channels.items():
        yield {"id": channel, "details": {"title": title or "?", "type": "channel"}}
    for number, (video_id, details) in enumerate(videos.items(), 1):
        yield {"id": f"{number}v", "external_id": video_id, "details": details}
