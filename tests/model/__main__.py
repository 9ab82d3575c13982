"""`python -m tests.model`: search a world of any size, and tell what happens when a rule is switched off."""

import argparse
import sys
import time

from tests.model.explore import explore
from tests.model.rules import Rule
from tests.model.state import Bounds


def main() -> None:
    """Every rule that is switched off, then none of them. Exits 1 when that one has a violation."""
    default = Bounds()
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument(
        "--sends", type=int, nargs="+", default=default.sends, help="how often each request is sent"
    )
    parser.add_argument("--shards", type=int, default=default.shards)
    parser.add_argument("--logs", type=int, default=default.logs, help="that are opened in all")
    parser.add_argument("--recoveries", type=int, default=default.recoveries, help="that go on at once")
    parser.add_argument("--faults", type=int, default=default.faults)
    parser.add_argument("--parts", type=int, default=default.parts, help="of each entry")
    parser.add_argument(
        "--only", choices=["none", *(rule.name for rule in Rule)], help="switch off only this"
    )
    chosen = parser.parse_args()
    bounds = Bounds(
        tuple(chosen.sends), chosen.shards, chosen.logs, chosen.recoveries, chosen.faults, chosen.parts
    )
    tell(f"{bounds}\n")
    for rule in Rule:
        if chosen.only in (None, rule.name):
            tell(f"{rule.name} switched off ({rule.value}):\n{explore(bounds, rule)}\n")
    if chosen.only in (None, "none"):
        started = time.monotonic()
        found = explore(bounds)
        tell(f"All rules on, {time.monotonic() - started:.0f} s:\n{found}")
        sys.exit(found.violation is not None)


def tell(words: str) -> None:
    """At once, for the search is long."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
