"""`python -m loadtests.simulators`: a simulated host of repositories and its directory, until the process ends.

The first line that it prints is the address of the directory. The same accounts and seed make the same repositories.
"""

import argparse
import asyncio
from contextlib import suppress

from loadtests.simulators.network import make_network, open_network


async def serve(accounts: int, seed: int) -> None:
    """Serve until cancelled."""
    async with open_network(make_network(accounts, seed)) as network:
        print(network.directory_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=200, help="accounts (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of their repositories (default: 0)")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(options.accounts, options.seed))
