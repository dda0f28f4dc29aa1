"""`python -m mvfouls` is `mvfouls`."""

import sys

from mvfouls.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
