"""Train a landing-safety segmenter; `--help` lists the flags."""

import sys

from uav_landing.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
