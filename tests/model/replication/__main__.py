"""`python -m tests.model.replication`: a shortest way to a wrong row for each rule that is switched off."""

import sys

from tests.model.replication.explore import explore
from tests.model.replication.rules import Rule
from tests.model.replication.test_rules import WHERE


def main() -> None:
    for rule in Rule:
        sys.stdout.write(f"{rule.name} switched off ({rule.value}):\n{explore(WHERE[rule], rule)}\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
