"""Count the classes of a data set and recommend weights; `--help` lists the flags."""

import sys

from uav_landing.cli import analyze_main

if __name__ == "__main__":
    sys.exit(analyze_main())
