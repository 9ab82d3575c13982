"""One view, from the call to the rollup and back."""

from tests.support.eventually import eventually
from tests.support.stack import Stack


async def test_a_view_that_was_acknowledged_is_in_a_strong_read(stack: Stack) -> None:
    receipt = await stack.client.count("video")
    assert (receipt.accepted_count, receipt.duplicate_count) == (1, 0)
    assert (await stack.client.get_count("video", strong=True)).count == 1


async def test_a_view_reaches_the_rollups(stack: Stack) -> None:
    await stack.client.count("video")

    async def is_flushed() -> bool:
        return (await stack.client.get_count("video")).count == 1

    await eventually(is_flushed)
    audit = await stack.client.audit()
    assert (audit.journaled_events, audit.counted_events, audit.discrepancy_events) == (1, 1, 0)


async def test_a_video_never_seen_counts_0(stack: Stack) -> None:
    assert (await stack.client.get_count("never seen")).count == 0
    assert (await stack.client.get_count("never seen", strong=True)).count == 0
