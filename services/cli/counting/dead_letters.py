"""`tally dead-letters list` and `show`, and the way to a shard that has the letters."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from services.cli.terminal.calling import call
from services.cli.terminal.connecting import client_options
from services.cli.terminal.failure import Failure
from services.cli.terminal.output import make_table, open_console
from tally.client import (
    Client,
    DeadLetter,
    DeadLetterContent,
    DeadLetterPage,
    PartitionMap,
    TallyError,
    Unimplemented,
)

_SERVICE = "tally.counting.v1.DeadLetterService"
_LARGEST_PAGE = 1_000
_WIDE = 100
"""columns of a terminal that has room for reasons"""
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@asynccontextmanager
async def open_letters(client: Client) -> AsyncIterator[Client]:
    """A client of a shard: that at the address itself, or one that a partitioner there names.

    Raises Failure, also when a shard that the partitioner names belongs to another cluster.
    """
    if await client.health(_SERVICE) != "SERVICE_UNKNOWN":
        yield client
        return
    try:
        partition_map = await client.partition_map()
    except Unimplemented:
        raise Failure(
            f"{client.address} answers neither for dead letters nor for the shards that do. Name a shard, a "
            "partitioner or a balancer before partitioners with --address"
        ) from None
    for shard in partition_map.shards:
        async with Client(shard.address, **client_options()) as other:
            if await _is_serving(other):
                await _check_cluster(other, partition_map)
                yield other
                return
    tried = ", ".join(shard.address for shard in partition_map.shards) or "none"
    raise Failure(f"no shard answers for dead letters. The partitioner at {client.address} names: {tried}")


async def read_pages(client: Client, state: str | None, limit: int) -> DeadLetterPage:
    """The first letters in a state, or in any. Raises TallyError."""
    letters: list[DeadLetter] = []
    token = ""
    while True:
        size = min(limit - len(letters), _LARGEST_PAGE)
        page = await client.counting.list_dead_letters(state=state, page_size=size, page_token=token)
        letters += page.letters
        token = page.next_page_token
        if not token or len(letters) >= limit:
            return DeadLetterPage(tuple(letters), token)


def read_letters(address: str, state: str | None, limit: int) -> DeadLetterPage:
    """The first letters in a state, or in any. Raises Failure."""

    async def read(client: Client) -> DeadLetterPage:
        async with open_letters(client) as letters:
            return await read_pages(letters, state, limit)

    return call(address, read)


def read_letter(address: str, letter_id: str, events: int) -> DeadLetterContent:
    """One letter and its first events. Raises Failure."""

    async def read(client: Client) -> DeadLetterContent:
        async with open_letters(client) as letters:
            return await letters.counting.get_dead_letter(letter_id, max_events=events)

    return call(address, read)


def list_as_json(page: DeadLetterPage) -> str:
    """The letters for programs; `is_complete` says whether these are all."""
    letters = [_to_json(asdict(letter)) for letter in page.letters]
    return json.dumps(
        {"letters": letters, "is_complete": not page.next_page_token}, indent=2, ensure_ascii=False
    )


def content_as_json(content: DeadLetterContent) -> str:
    """The letter for programs."""
    fields = asdict(content)
    fields["letter"] = _to_json(fields["letter"])
    for event in fields["events"]:
        del event["function"]  # it is checked at the door and not kept
        event["event_time"] = event["event_time"] and event["event_time"].isoformat()
    return json.dumps(fields, indent=2, ensure_ascii=False)


def show_list(page: DeadLetterPage, *, has_states: bool) -> None:
    """The letters as a table on standard output; with their states when these differ, and the reasons if they fit."""
    console = open_console()
    if not page.letters:
        console.print("no dead letters")
        return
    columns: dict[str, Callable[[DeadLetter], str]] = {
        "id": lambda letter: letter.id,
        "state": lambda letter: letter.state,
        "#events": lambda letter: str(letter.event_count),
        "#age": lambda letter: _age(datetime.now(UTC) - letter.create_time),
        "video": lambda letter: letter.video_id or "?",
        "reason": _reason,
    }
    if not has_states:
        del columns["state"]
    if console.width < _WIDE:
        del columns["reason"]
    table = make_table(console, "Dead letters", *columns)
    table.columns[0].no_wrap = True
    for letter in page.letters:
        table.add_row(*(read(letter) for read in columns.values()))
    console.print(table)
    if "reason" not in columns:
        console.print("Each has a reason: `tally dead-letters show ID`, or a terminal of 100 columns.")
    if page.next_page_token:
        console.print("There are more: see --limit.")


def show_content(content: DeadLetterContent) -> None:
    """The letter and its events as tables on standard output."""
    console, letter = open_console(), content.letter
    place = (
        "never in the journal"
        if letter.log_id is None
        else f"in the journal, entry {letter.seq} of log {letter.log_id}"
    )
    table = make_table(console, "Dead letter", "", "")
    for name, value in {
        "id": letter.id,
        "state": letter.state,
        "reason": letter.reason,
        "events": str(letter.event_count),
        "received": letter.receive_time.isoformat(),
        "set aside": letter.create_time.isoformat(),
        "decided": letter.decide_time.isoformat() if letter.decide_time else "",
        "note": letter.note,
        "entry": place,
    }.items():
        if value:
            table.add_row(name, value)
    table.show_header = False
    console.print(table)
    if content.problem:
        console.print(f"Its events cannot be read: {content.problem}")
        return
    table = make_table(console, "Events", "video", "type", "time", "#value", "actor")
    for event in content.events:
        time = event.event_time.isoformat() if event.event_time else "when received"
        value = "" if event.value is None else f"{event.value:g}"
        table.add_row(event.video_id, event.event_type, time, value, event.actor_id)
    console.print(table)
    if len(content.events) < letter.event_count:
        console.print(f"These are the first {len(content.events)} of {letter.event_count}: see --events.")


async def _check_cluster(shard: Client, partition_map: PartitionMap) -> None:
    found = await shard.counting.get_cluster()
    if found != partition_map.cluster:
        raise Failure(
            f"the shard at {shard.address}, which the partitioner names, belongs to {found}, and the partitioner to "
            f"{partition_map.cluster or 'no cluster that it tells'}. Check TALLY_PARTITIONER__SHARDS"
        )


async def _is_serving(client: Client) -> bool:
    try:
        return await client.health(_SERVICE) == "SERVING"
    except TallyError:
        return False


def _reason(letter: DeadLetter) -> str:
    """Why it is a dead letter, and what was found when it was decided."""
    return f"{letter.reason} ({letter.note})" if letter.note else letter.reason


def _age(age: timedelta) -> str:
    """In one unit, rounded down: `3 h`."""
    seconds = age.total_seconds()
    size, unit = next(((size, unit) for size, unit in _AGES if seconds >= size), _AGES[-1])
    return f"{int(max(seconds, 0) // size)} {unit}"


def _to_json(letter: dict[str, Any]) -> dict[str, Any]:
    times = ("receive_time", "create_time", "decide_time")
    return letter | {name: letter[name] and letter[name].isoformat() for name in times}
