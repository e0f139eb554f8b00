"""``python -m etrax``: the command line."""

import sys

from etrax.cli import main

if __name__ == "__main__":
    sys.exit(main())
