"""Train with several losses and compare them; `--help` lists the flags."""

import sys

from eye_fixation.cli import compare_main

if __name__ == "__main__":
    sys.exit(compare_main())
else:
    from eye_fixation.documented import *  # noqa: F403
