"""`python -m services [all | NAME…]` is `tally up`: run services in the foreground until Ctrl-C or SIGTERM."""

import sys

from services.cli.app import main

if __name__ == "__main__":
    sys.argv[1:1] = ["up"]
    main()
