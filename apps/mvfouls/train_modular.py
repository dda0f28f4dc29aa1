"""Train on every task with the modular command line; `--help` lists the flags."""

import sys

from mvfouls.cli.modular import main

if __name__ == "__main__":
    sys.exit(main())
