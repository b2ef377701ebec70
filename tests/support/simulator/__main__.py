"""`python -m simulator seeds` and `python -m simulator mutants`, see `--help`."""

import sys

from simulator.command import main

if __name__ == "__main__":
    sys.exit(main())
