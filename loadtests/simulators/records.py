"""Seeded record sets: posts with and without videos, likes, reposts and others, with odd times and repeated records."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.atproto.cid import cid_of
from libs.atproto.syntax import make_tid

LIKE, POST, REPOST = "app.bsky.feed.like", "app.bsky.feed.post", "app.bsky.feed.repost"
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
_SPAN_SECONDS = 300 * 86_400
_ODD_TIMES = ("tomorrow", "1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2025-02-30T00:00:00Z", None, 7)
_BLOB = {"$type": "blob", "ref": cid_of(b"a video", 0x55), "mimeType": "video/mp4", "size": 7}
_VIDEO = {"$type": "app.bsky.embed.video", "video": _BLOB}
_IMAGES = {"$type": "app.bsky.embed.images", "images": []}


@dataclass(slots=True)
class World:
    """What all accounts have written: their records, and the events that they are."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by DID: values by `collection/key`"""
    events: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    """by DID: how many events of (video, type) its records are, if the posts that they name are in the dataset"""
    videos: set[str] = field(default_factory=set)
    """at-URIs of the posts with a video"""

    def truth(self, fetched: Sequence[str]) -> Counter[tuple[str, str]]:
        """How often each (video, type) counts when these accounts are in the dataset, and no others."""
        chosen = set(fetched)
        total: Counter[tuple[str, str]] = Counter()
        for did in chosen:
            for (video, kind), count in self.events[did].items():
                if video.split("/")[2] in chosen:
                    total[video, kind] += count
        return total


def make_world(dids: Sequence[str], seed: int, median_records: int = 40) -> World:
    """Record sets of these accounts; the same for the same arguments."""
    chance = random.Random(seed)
    world = World()
    posts: list[str] = []
    for did in dids:
        posts += _write_posts(world, did, chance, median_records)
    strange = [
        "at://did:plc:nobodyknowsthisaccount22/app.bsky.feed.post/3l2222222222a",
        "https://example.org/",
    ]
    for did in dids:
        _write_others(world, did, chance, median_records, posts, strange)
    return world


def _write_posts(world: World, did: str, chance: random.Random, median: int) -> list[str]:
    records = world.records[did] = {}
    events = world.events[did] = Counter()
    uris = []
    for _ in range(1 + _size(chance, median) // 8):
        key = _key(chance)
        embed: Mapping[str, Any] | None = None
        has_video = False
        match chance.randrange(5):
            case 0:
                embed, has_video = _VIDEO, True
            case 1:
                quote = {"$type": "app.bsky.embed.record", "record": {"uri": "at://x", "cid": "y"}}
                embed = {"$type": "app.bsky.embed.recordWithMedia", "media": _VIDEO, "record": quote}
                has_video = True
            case 2:
                embed = {"$type": "app.bsky.embed.recordWithMedia", "media": _IMAGES}
        post = {"$type": POST, "text": "häppy\0 post 🎬", "langs": ["en"], **_created(chance)}
        records[f"{POST}/{key}"] = post | ({"embed": embed} if embed else {})
        uri = f"at://{did}/{POST}/{key}"
        uris.append(uri)
        if has_video:
            world.videos.add(uri)
            events[uri, "post"] += 1
    return uris


def _write_others(
    world: World, did: str, chance: random.Random, median: int, posts: Sequence[str], strange: Sequence[str]
) -> None:
    records, events = world.records[did], world.events[did]
    for number in range(_size(chance, median)):
        collection, kind = (LIKE, "like") if chance.random() < 0.8 else (REPOST, "repost")
        # A few posts get most of the likes.
        uri = (
            posts[int(len(posts) * chance.random() ** 3)]
            if chance.random() < 0.95
            else chance.choice(strange)
        )
        record = {"$type": collection, "subject": {"uri": uri, "cid": "bafyrei"}, **_created(chance)}
        keys = [_key(chance) for _ in range(2 if number % 20 == 0 else 1)]  # equal records share a block
        for key in keys:
            records[f"{collection}/{key}"] = record
            if uri in world.videos:
                events[uri, kind] += 1
    records["app.bsky.actor.profile/self"] = {"$type": "app.bsky.actor.profile", "displayName": did[-4:]}
    records[f"com.example.strange/{_key(chance)}"] = {"number": 1.5, "bytes": b"\0\xff", "big": 2**60}
    records["com.example.strange/a-key:of~its.own"] = {"subject": {"uri": posts[0]}, "embed": _VIDEO}
    records[f"{LIKE}/malformed"] = {"$type": LIKE, "subject": posts[0]}


def _size(chance: random.Random, median: int) -> int:
    return min(int(chance.lognormvariate(0, 0.8) * median), 20 * median)


def _key(chance: random.Random) -> str:
    return make_tid(_moment_us(chance), chance.randrange(1024))


def _created(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.1:
        odd = chance.choice(_ODD_TIMES)
        return {} if odd is None else {"createdAt": odd}
    at = BEGIN + timedelta(microseconds=chance.randrange(_SPAN_SECONDS * 1_000_000))
    return {"createdAt": at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def _moment_us(chance: random.Random) -> int:
    return int(BEGIN.timestamp() * 1e6) + chance.randrange(_SPAN_SECONDS * 1_000_000)
