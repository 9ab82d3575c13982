"""`python -m tests.model.catalog`: a shortest way to a breach for each rule that is switched off."""

import sys

from tests.model.catalog.explore import explore
from tests.model.catalog.rules import Rule
from tests.model.catalog.test_rules import WHERE, WORLD


def main() -> None:
    for rule in Rule:
        sys.stdout.write(
            f"{rule.name} switched off ({rule.value}):\n{explore(WHERE.get(rule, WORLD), rule)}\n\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"All rules on:\n{explore(WORLD)}\n")


if __name__ == "__main__":
    main()
