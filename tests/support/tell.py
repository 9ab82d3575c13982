"""Figures that a test has measured, for whoever runs it with `pytest -s`."""

import sys


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
