"""`tally quota put` and `list`."""

from collections.abc import Sequence

from services.cli.scheduler.lists import read_all
from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console, write_moment
from tally.client import Client
from tally.client.scheduler import Quota, QuotaStatus


def put_quotas(address: str, quotas: Sequence[Quota]) -> list[QuotaStatus]:
    """Store quotas, one after the other. Raises Failure."""

    async def put(client: Client) -> list[QuotaStatus]:
        return [await client.scheduler.put_quota(quota) for quota in quotas]

    return call(address, put)


def read_quotas(address: str) -> list[QuotaStatus]:
    """All quotas. Raises Failure."""

    async def read(client: Client) -> list[QuotaStatus]:
        return await read_all(
            lambda size, token: client.scheduler.list_quotas(page_size=size, page_token=token)
        )

    return call(address, read)


def show_list(quotas: Sequence[QuotaStatus]) -> None:
    """The quotas as a table on standard output."""
    console = open_console()
    if not quotas:
        console.print("no quotas")
        return
    headings = ("quota", "#units a day", "#used", "#forced", "#protected", "day", "reset", "closed until")
    table = make_table(console, "Quotas", *headings)
    for status in quotas:
        quota = status.quota
        closed = write_moment(status.closed_until_time)
        table.add_row(
            quota.name,
            f"{quota.units_per_day:,}",
            f"{status.used_units:,}",
            f"{status.forced_units:,}",
            f"{status.protected_units:,}",
            f"{status.day} {quota.zone}",
            write_moment(status.reset_time),
            f"{closed} ({status.closed_reason})" if closed else "",
        )
    console.print(table)
