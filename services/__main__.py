"""`python -m services [all | NAME…]`: run services in the foreground until Ctrl-C or SIGTERM."""

import sys

from services.cli.up import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:] or ["all"]))
