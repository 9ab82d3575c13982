"""The stores of a process: the configured ones, or embedded ones."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from libs.embedded.postgres import open_postgres
from libs.embedded.process import OnDeath
from libs.embedded.valkey import open_valkey
from services.registry import ALL
from services.settings import Settings
from tally.contract.errors import NotReady

Report = Callable[[str], None]
"""called with a message before a long step"""


async def open_stores(
    stack: AsyncExitStack, settings: Settings, report: Report, on_death: OnDeath, *, may_embed: bool
) -> tuple[str, str]:
    """The DSN and the URL of the stores, of our own where none are set."""
    dsn, url = settings.postgres.dsn, settings.valkey.url
    if not may_embed and (dsn is None or url is None):
        missing = [
            name
            for name, value in (("TALLY_POSTGRES__DSN", dsn), ("TALLY_VALKEY__URL", url))
            if value is None
        ]
        raise NotReady(
            f"{' and '.join(missing)} must be set: only `{ALL}` brings servers of its own, because services "
            "in several processes must share theirs"
        )
    if dsn is None:
        report(f"Starting Postgres in {settings.data_dir / 'postgres'}")
        dsn = await stack.enter_async_context(
            open_postgres(
                settings.data_dir / "postgres", settings=settings.embedded.postgres, on_death=on_death
            )
        )
    if url is None:
        report(f"Starting Valkey in {settings.data_dir / 'valkey'}")
        url = await stack.enter_async_context(
            open_valkey(settings.data_dir / "valkey", settings=settings.embedded.valkey, on_death=on_death)
        )
    return dsn, url
