"""`python -m common.reporting RUN_FOLDER`: write `report.html` again from the files of a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.reporting.report import write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of one run and print its path; return 2 when the folder is not a run."""
    parser = argparse.ArgumentParser(prog="python -m common.reporting", description=__doc__)
    parser.add_argument("run_folder", type=Path, help="folder that holds metrics.jsonl or events.jsonl")
    folder = parser.parse_args(argv).run_folder
    try:
        path = write_report(folder)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
