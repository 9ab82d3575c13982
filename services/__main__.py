"""`python -m services [all | NAME…]` is `tally up`: run services in the foreground until Ctrl-C or SIGTERM."""

import sys

from services.startup import end_on_signals

if __name__ == "__main__":
    end_on_signals()

    from services.cli.app import main

    sys.argv[1:1] = ["up"]
    main()
