"""Train a behaviour model; `--help` lists the flags."""

import sys

from rodent_behavior.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
