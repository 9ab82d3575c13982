"""`make faults`: runs the table, prints it, and ends with 1 when a line of it is broken."""

import argparse
import asyncio
import logging
import os
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.fault.table.report import print_table, to_markdown
from tests.fault.table.table import Table


def main() -> int:
    """The exit status."""
    options = _parse()
    logging.getLogger("tally.client").setLevel(logging.ERROR)  # the ledgers tell what the clients meet
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="tally-faults-") as folder:
        table = Table(console, options.keep or Path(folder), options.seed)
        try:
            asyncio.run(
                table.run_combinations(options.minutes) if options.minutes else table.run_all(options.only)
            )
        except KeyboardInterrupt:
            console.print("stopped; this is what there is")
    print_table(console, table.rows, options.seed)
    if options.markdown:
        options.markdown.write_text(to_markdown(table.rows, options.seed))
    return 1 if any(row.wrong for row in table.rows) or not table.rows else 0


def _parse() -> argparse.Namespace:
    seed, minutes = os.environ.get("SEED"), os.environ.get("MINUTES")
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--only", default="", help="those faults whose names contain this")
    parser.add_argument("--seed", type=int, default=int(seed) if seed else random.randrange(10**6))
    parser.add_argument(
        "--minutes", type=float, default=float(minutes or 0), help="random combinations for so long"
    )
    parser.add_argument("--markdown", type=Path, help="write the table there, too")
    parser.add_argument("--keep", type=Path, help="a folder for the logs of the processes; they are kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
