"""The dead letters of a cluster, through the api."""

import asyncpg
import pytest

from services.counting.dead_letters.letters import Key
from tally.client import (
    AlreadyDecided,
    DeadLetter,
    DeadLetterState,
    Event,
    InvalidRequest,
    NotFound,
    NotReplayable,
)
from tests.support.entries import new_id
from tests.support.eventually import eventually
from tests.support.letters import REASON, bury_spooled, old_id
from tests.support.stack import Stack

COUNTS = {("video", "view"): 2, ("video", "like"): 1}
N = 5


@pytest.fixture
async def keys(stack: Stack) -> list[Key]:
    """Letters that can be replayed, oldest first; two became one at the same moment."""
    connection = await asyncpg.connect(stack.dsn)
    try:
        for _ in range(N):
            await bury_spooled(connection, COUNTS, await old_id(connection))
        await connection.execute(
            "update counting.dead_letter set created_at = (select min(created_at) from counting.dead_letter) "
            "where request_id in "
            "(select request_id from counting.dead_letter order by created_at limit 2)"
        )
        rows = await connection.fetch(
            "select request_id, partition from counting.dead_letter order by created_at, request_id, partition"
        )
        return [Key(row["request_id"], row["partition"]) for row in rows]
    finally:
        await connection.close()


async def ids(stack: Stack, state: str | None, page_size: int) -> list[str]:
    """All letters in a state, page by page."""
    found: list[DeadLetter] = []
    token = ""
    while True:
        page = await stack.client.counting.list_dead_letters(
            state=state, page_size=page_size, page_token=token
        )
        assert len(page.letters) <= page_size
        found += page.letters
        token = page.next_page_token
        if not token:
            return [letter.id for letter in found]


async def test_pages_have_every_letter_once_oldest_first(stack: Stack, keys: list[Key]) -> None:
    await stack.client.counting.drop_dead_letter(str(keys[1]))
    waiting = [str(key) for key in keys if key != keys[1]]
    for page_size in (1, 2, N - 1, N, 50):
        assert await ids(stack, None, page_size) == [str(key) for key in keys]
        assert await ids(stack, "waiting", page_size) == waiting
    assert await ids(stack, DeadLetterState.DROPPED, 1) == [str(keys[1])]
    assert await ids(stack, "replayed", 1) == []
    first = await stack.client.counting.list_dead_letters(page_size=1)
    with pytest.raises(InvalidRequest, match="page_token"):
        await stack.client.counting.list_dead_letters(state="waiting", page_token=first.next_page_token)
    with pytest.raises(InvalidRequest, match="page_size: must not be negative"):
        await stack.client.counting.list_dead_letters(page_size=-1)
    with pytest.raises(InvalidRequest, match="state: 'gone' is none of waiting, replayed, dropped"):
        await stack.client.counting.list_dead_letters(state="gone")


async def test_a_letter_shows_its_events_and_what_became_of_it(stack: Stack, keys: list[Key]) -> None:
    letter_id = str(keys[0])
    content = await stack.client.counting.get_dead_letter(letter_id, max_events=2)
    letter = content.letter
    assert (letter.id, letter.state, letter.reason) == (letter_id, "waiting", REASON)
    assert (letter.event_count, letter.video_id) == (3, "video")
    assert (letter.decide_time, letter.log_id, letter.seq) == (None, None, None)
    assert content.events == (Event("video", "view"), Event("video", "view"))
    assert content.problem == ""

    decision = await stack.client.counting.replay_dead_letter(letter_id)
    assert not decision.was_decided
    assert decision.letter.decide_time is not None
    shown = (await stack.client.counting.get_dead_letter(letter_id)).letter
    assert shown == decision.letter
    assert shown.state is DeadLetterState.REPLAYED
    assert (await stack.client.counting.replay_dead_letter(letter_id)).was_decided
    with pytest.raises(AlreadyDecided, match="was replayed at"):
        await stack.client.counting.drop_dead_letter(letter_id)

    audit = await stack.client.audit()
    assert (audit.counted_events, audit.replayed_events, audit.discrepancy_events) == (3, 3, 0)
    for strong in (True, False):
        assert (await stack.client.get_count("video", strong=strong)).count == 2


async def test_a_letter_that_cannot_be_read_says_why(stack: Stack, keys: list[Key]) -> None:
    connection = await asyncpg.connect(stack.dsn)
    try:
        await connection.execute(
            "update counting.dead_letter set payload = '\\xff' where request_id = $1", keys[0].request_id
        )
    finally:
        await connection.close()
    content = await stack.client.counting.get_dead_letter(str(keys[0]))
    assert (content.letter.video_id, content.events) == ("", ())
    assert "is not a well-formed EventColumns" in content.problem
    with pytest.raises(NotReplayable, match="cannot be read"):
        await stack.client.counting.replay_dead_letter(str(keys[0]))
    assert len(await ids(stack, "waiting", 50)) == N


async def test_a_letter_that_is_not_there_is_not_found(stack: Stack) -> None:
    nobody = str(Key(new_id(), 0))
    client = stack.client
    for call in (
        client.counting.get_dead_letter,
        client.counting.replay_dead_letter,
        client.counting.drop_dead_letter,
    ):
        with pytest.raises(NotFound, match=f"there is no dead letter {nobody}"):
            await call(nobody)
        with pytest.raises(InvalidRequest, match="id: must be a request id"):
            await call("nobody")


async def test_the_service_is_served_like_the_others(stack: Stack) -> None:
    async def is_serving() -> bool:
        return await stack.client.health("tally.counting.v1.DeadLetterService") == "SERVING"

    await eventually(is_serving)
