"""The documented losses; run as a script it prints the value of each on an example."""

import sys

from eye_fixation.documented_losses import *  # noqa: F403
from eye_fixation.loss_example import main

if __name__ == "__main__":
    sys.exit(main())
