"""`python -m rodent_behavior` is `rodent-behavior`."""

import sys

from rodent_behavior.cli import main

if __name__ == "__main__":
    sys.exit(main())
