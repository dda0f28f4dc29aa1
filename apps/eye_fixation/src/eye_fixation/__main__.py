"""`python -m eye_fixation` is `eye-fixation`."""

import sys

from eye_fixation.cli import main

if __name__ == "__main__":
    sys.exit(main())
