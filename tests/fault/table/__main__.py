"""`make faults`: runs the table, prints it, and ends with 1 when a line of it is broken."""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.fault.table.deployment import open_deployment
from tests.fault.table.faults import FAULTS, PAIR_FAULTS
from tests.fault.table.load import Pace
from tests.fault.table.report import print_table, to_markdown
from tests.fault.table.round import Row, run_round


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--only", default="", help="those faults whose names contain this")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.randrange(10**6)))
    parser.add_argument("--markdown", type=Path, help="write the table there, too")
    parser.add_argument("--keep", type=Path, help="a folder for the logs of the processes; they are kept")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 180)
    with tempfile.TemporaryDirectory(prefix="tally-faults-") as folder:
        rows = asyncio.run(_run(options, console, options.keep or Path(folder)))
    print_table(console, rows, options.seed)
    if options.markdown:
        options.markdown.write_text(to_markdown(rows, options.seed))
    return 1 if any(row.wrong for row in rows) or not rows else 0


async def _run(options: argparse.Namespace, console: Console, folder: Path) -> list[Row]:
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(options.seed)
    rows = []
    console.print(f"seed {options.seed}; starting Postgres, Valkey and the services")
    number = 0
    for is_pair, faults in ((False, FAULTS), (True, PAIR_FAULTS)):
        chosen = [fault for fault in faults if options.only in fault.name]
        if not chosen:
            continue
        async with open_deployment(folder, is_pair=is_pair) as deployment:
            for fault in chosen:
                number += 1
                console.print(f"{number}: {fault.name} …", end=" ")
                row = await run_round(fault, deployment, number, random.Random(chance.random()), Pace())
                console.print("BROKEN" if row.wrong else "holds")
                rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
