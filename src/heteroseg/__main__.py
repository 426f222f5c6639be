"""The program `heteroseg`; `python -m heteroseg` is the same."""

import signal
import sys


def run() -> None:
    """Run the command that the command line names, and end the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while the modules are read
    from heteroseg.cli.main import main

    sys.exit(main())


if __name__ == "__main__":
    run()
