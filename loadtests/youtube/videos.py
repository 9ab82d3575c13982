"""The videos that the simulated api knows."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Video:
    """A video as its owner sees it."""

    id: str
    title: str
    channel_id: str
    published_at: str = "2017-11-13T17:13:01Z"
    duration: str = "PT3M20S"
    view_count: int = 0
    like_count: int = 0
    comment_count: int = 0

    def resource(self) -> dict[str, Any]:
        """The video as the api writes it, with the etag that follows from it."""
        written: dict[str, Any] = {
            "kind": "youtube#video",
            "id": self.id,
            "snippet": {"title": self.title, "channelId": self.channel_id, "publishedAt": self.published_at},
            "contentDetails": {"duration": self.duration},
            "statistics": {
                "viewCount": str(self.view_count),  # a uint64 arrives as a string
                "likeCount": str(self.like_count),
                "commentCount": str(self.comment_count),
            },
        }
        return {**written, "etag": hashlib.sha256(json.dumps(written).encode()).hexdigest()[:27]}


class Catalog:
    """The videos, some of which may vanish or change while the server runs."""

    def __init__(self, videos: Iterable[Video]) -> None:
        self._videos: dict[str, Video] = {video.id: video for video in videos}

    def find(self, video_id: str) -> Mapping[str, Any] | None:
        """What the api tells of a video; None when there is none."""
        video = self._videos.get(video_id)
        return None if video is None else video.resource()

    def remove(self, video_id: str) -> None:
        """Delete a video."""
        del self._videos[video_id]

    def view(self, video_id: str, times: int = 1) -> None:
        """Count views of a video."""
        video = self._videos[video_id]
        self._videos[video_id] = replace(video, view_count=video.view_count + times)
