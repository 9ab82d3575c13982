"""A Tally to kill: opens Postgres or Valkey on a folder, prints its address and waits for the end.

    python holder.py postgres|valkey FOLDER

A script and no module, as it also runs where only a copy of the tree can be reached.
"""

import asyncio
import sys
from pathlib import Path

from libs.embedded.postgres import open_postgres
from libs.embedded.valkey import open_valkey
from tally.contract.errors import NotReady


async def hold(what: str, folder: Path) -> None:
    server = open_postgres(folder) if what == "postgres" else open_valkey(folder)
    async with server as address:
        print(address, flush=True)  # noqa: T201 - this is how the test learns it
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(hold(sys.argv[1], Path(sys.argv[2])))
    except NotReady as error:
        sys.exit(f"not ready: {error}")
