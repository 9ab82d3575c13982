"""Prints the data set as JSON lines for `tally catalog load`: `python -m loadtests.catalog > videos.jsonl`."""

import json
import sys

from loadtests.catalog.resources import DATA, read_resources


def main() -> None:
    for resource in read_resources(DATA):
        json.dump(resource, sys.stdout, ensure_ascii=False)
        print()


if __name__ == "__main__":
    main()
