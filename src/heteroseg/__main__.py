"""`python -m heteroseg` is the command `heteroseg`."""

import sys

from heteroseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
