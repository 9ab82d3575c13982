"""The handler `metadata` with YouTube's own client, against a real HTTP server that answers as the api does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, suppress

import pytest
import pytest_asyncio
from pydantic import SecretStr

from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import MAX_IDS, Fault, Simulator, open_simulator
from loadtests.youtube.videos import Catalog, Video
from services.worker.handlers.handler import (
    CallFailed,
    Handler,
    Item,
    Outcome,
    QuotaExceeded,
    Result,
    TooManyRequests,
)
from services.worker.handlers.metadata import open_metadata
from services.worker.settings import YoutubeSettings

KEY = "AIza-a-secret"
VIDEOS = [
    Video(f"video-{number:02}", f"Title {number}", "UC_x5XG1OV2P", view_count=2**63 + number)
    for number in range(60)
]


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Simulator]:
    async with open_simulator(Simulator(Catalog(VIDEOS), Meter(), key=KEY)) as simulator:
        yield simulator


@pytest.fixture
def handler(api: Simulator) -> Iterator[Handler]:
    settings = YoutubeSettings(api_key=SecretStr(KEY), endpoint=api.url, timeout_seconds=0.5)
    with closing(open_metadata(settings)) as opened:
        yield opened


async def handle(handler: Handler, *ids: str, etags: dict[str, str] | None = None) -> Sequence[Result]:
    items = [Item(each, {"etag": etags[each]} if etags else {}) for each in ids]
    return await asyncio.to_thread(handler.handle, items)


async def test_a_batch_of_fifty_is_one_call_of_one_unit(api: Simulator, handler: Handler) -> None:
    ids = [video.id for video in VIDEOS[:MAX_IDS]]
    results = await handle(handler, *ids)
    assert [result.id for result in results] == ids
    assert (api.calls, sum(api.meter.used.values())) == (1, 1)
    found = results[7].data
    assert found is not None
    assert (found.title, found.channel_id, found.view_count) == ("Title 7", "UC_x5XG1OV2P", 2**63 + 7)
    assert (found.duration_seconds, str(found.published_at)) == (200, "2017-11-13 17:13:01+00:00")


async def test_an_unchanged_video_and_one_that_vanished_are_told_apart(
    api: Simulator, handler: Handler
) -> None:
    ids = ("video-00", "video-01", "video-02")
    first = await handle(handler, *ids)
    etags = {result.id: str(result.data and result.data.etag) for result in first}
    api.catalog.view("video-01")
    api.catalog.remove("video-02")
    second = await handle(handler, *ids, etags=etags)
    assert [result.outcome for result in first] == [Outcome.SYNCED] * 3
    assert [result.outcome for result in second] == [Outcome.UNCHANGED, Outcome.SYNCED, Outcome.GONE]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.SERVER_ERROR, CallFailed),
        (Fault.CUT, CallFailed),
        (Fault.HANG, CallFailed),
        (Fault.NOT_JSON, CallFailed),
        (Fault.TOO_MANY, TooManyRequests),
    ],
)
async def test_a_call_that_fails_whole_is_no_items_failure(
    api: Simulator, handler: Handler, fault: Fault, expected: type[Exception]
) -> None:
    api.next_faults.append(fault)
    with pytest.raises(expected) as raised:
        await handle(handler, "video-00")
    assert KEY not in str(raised.value)
    if isinstance(raised.value, TooManyRequests):
        assert raised.value.retry_after_seconds == 1.0
    assert [result.outcome for result in await handle(handler, "video-00")] == [Outcome.SYNCED]


async def test_a_used_up_quota_is_told_from_a_wrong_key(api: Simulator, handler: Handler) -> None:
    api.meter.units_per_day = 1
    await handle(handler, "video-00")
    with pytest.raises(QuotaExceeded, match="HTTP 403 quotaExceeded"):
        await handle(handler, "video-00")
    api.key = "another"
    with pytest.raises(CallFailed, match="HTTP 400 badRequest"):
        await handle(handler, "video-00")
    assert api.meter.refused_count == 1


async def test_more_ids_than_fifty_are_refused_and_still_charged(api: Simulator, handler: Handler) -> None:
    with pytest.raises(CallFailed, match="HTTP 400 invalidFilters"):
        await handle(handler, *(video.id for video in VIDEOS))
    assert sum(api.meter.used.values()) == 1


async def test_ids_that_make_a_long_url_arrive_all_the_same(api: Simulator, handler: Handler) -> None:
    long = [Video("v" * 90 + f"{number:02}", "Long", "UC_x5XG1OV2P") for number in range(MAX_IDS)]
    api.catalog = Catalog(long)
    results = await handle(handler, *(video.id for video in long))
    assert {result.outcome for result in results} == {Outcome.SYNCED}


async def test_the_key_is_in_no_log_and_not_in_what_the_settings_print(
    api: Simulator, handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api.next_faults = [Fault.SERVER_ERROR, Fault.TOO_MANY]
    for _ in range(3):
        with suppress(CallFailed, TooManyRequests):
            await handle(handler, "video-00")
    assert KEY not in caplog.text
    assert KEY not in repr(YoutubeSettings(api_key=SecretStr(KEY)))
