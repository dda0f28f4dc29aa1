"""`python -m common.reporting RUN_FOLDER ...`: write each run's `report.html` again, and an index of them.

A page of another kind, `SOME.html`, is linked as it is, with the values of `summary.json` beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.reporting.html import MISSING, number
from common.reporting.index import IndexEntry, write_index
from common.reporting.report import write_report
from common.reporting.run_data import read_run

FEATURED = 4
SUMMARY = "summary.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the reports and print their paths; return 2 when a folder is not a run."""
    parser = argparse.ArgumentParser(prog="python -m common.reporting", description=__doc__)
    parser.add_argument(
        "run_folder",
        type=Path,
        nargs="+",
        help="folder with metrics.jsonl or events.jsonl, or a page",
    )
    parser.add_argument("--index", type=Path, help="page to write that links to every report")
    parser.add_argument("--titles", nargs="+", help="title of each run on that page")
    given = parser.parse_args(argv)
    titles = given.titles or [folder.resolve().name for folder in given.run_folder]
    if len(titles) != len(given.run_folder):
        parser.error(f"--titles: {len(titles)} titles for {len(given.run_folder)} runs")
    try:
        reports = [path if path.suffix == ".html" else write_report(path) for path in given.run_folder]
        if given.index is not None:
            entries = [_entry(*pair) for pair in zip(titles, reports, strict=True)]
            reports.append(write_index(given.index, entries, "Reports"))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in reports)
    return 0


def _entry(title: str, report: Path) -> IndexEntry:
    facts = report.parent / SUMMARY
    if facts.is_file():
        values = list(json.loads(facts.read_text(encoding="utf-8")).items())
    else:
        run = read_run(report.parent)
        rows = [row for event in run.chosen("summary", "split") for row in event["rows"]]
        values = [(row["name"], row["value"]) for row in rows]
    known = [(name, value) for name, value in values if number(value) != MISSING]
    return IndexEntry(title, known[:FEATURED], report)


if __name__ == "__main__":
    sys.exit(main())
