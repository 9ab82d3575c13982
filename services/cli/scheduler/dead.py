"""`tally jobs dead`."""

from collections.abc import Sequence

from services.cli.scheduler.lists import read_all
from services.cli.scheduler.runs import plan_once
from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console, write_moment
from tally.client import Client
from tally.client.scheduler import DeadLetter, Run


def read_letters(address: str, job: str, limit: int | None) -> list[DeadLetter]:
    """The items that were given up. Raises Failure."""

    async def read(client: Client) -> list[DeadLetter]:
        return await read_all(
            lambda size, token: client.scheduler.list_dead_letters(job, page_size=size, page_token=token),
            limit,
        )

    return call(address, read)


def retry_letters(address: str, job: str, item_ids: Sequence[str], request_id: str | None) -> Run:
    """Plan a run of items that were given up. Raises Failure."""
    return plan_once(
        address,
        request_id,
        lambda client, id_: client.scheduler.retry_dead_letters(job, item_ids, request_id=id_),
    )


def drop_letters(address: str, job: str, item_ids: Sequence[str]) -> int:
    """Remove items from the list; how many. Raises Failure."""

    async def drop(client: Client) -> int:
        return await client.scheduler.drop_dead_letters(job, item_ids)

    return call(address, drop)


def show_letters(letters: Sequence[DeadLetter]) -> None:
    """The letters as a table on standard output."""
    console = open_console()
    if not letters:
        console.print("no dead letters")
        return
    table = make_table(
        console, "Dead letters", "item", "#run", "#tries", "outcome", "detail", "since", "last"
    )
    for letter in letters:
        table.add_row(
            letter.item_id,
            str(letter.run_id),
            str(letter.try_count),
            "failed" if letter.failed_for_good else "failed in each try",
            letter.detail,
            write_moment(letter.create_time),
            write_moment(letter.update_time),
        )
    console.print(table)
