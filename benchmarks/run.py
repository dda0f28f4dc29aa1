"""Time the library and the applications against their peers in one process.

`python benchmarks/run.py [--only NAME] [--json FILE]` prints a table of ratios, the medians of 7 interleaved
repeats with bootstrap intervals, beside the budgets; a run of everything writes JSON. Exit code 1 when a
value misses its budget by more than a factor of 1.5.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from timing import REPEATS, Entry, Row, Settings

from common.config import Parsed, UserError, run_main

GROUPS = (
    "losses",
    "metrics",
    "library",
    "engine",
    "checkpoint",
    "data",
    "analyzer",
    "models",
    "memory",
    "fouls",
    "gaze",
    "rodent",
)
RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "opencv-python",
    "scikit-learn",
    "torchmetrics",
    "monai",
    "kornia",
    "segmentation-models-pytorch",
    "accelerate",
)
FAILED = 1
WIDTHS = (50, 10, 20, 7, 7)


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Time the library against its peers; a table on stdout and a JSON file."""

    only: tuple[str, ...] = ()
    """Entries (`losses.focal`) or groups (`losses`) to run; all when left out."""
    json: Path | None = None
    """Result file. Default: benchmarks/results/<date>.json, and none with --only."""
    repeats: int = REPEATS
    """Interleaved repeats of every measurement."""
    small: bool = False
    """Reduced sizes that only show that entries work; budgets are not judged."""
    full: bool = False
    """Count all 400 masks for the analyzer instead of extrapolating."""
    list: bool = False
    """Print the names of the entries and stop."""


def run(parsed: Parsed[BenchConfig]) -> int:
    """Measure the chosen entries, print each row as it is known, write the JSON file."""
    config = parsed.config
    if config.repeats < 1:
        raise UserError(f"--repeats {config.repeats}: at least 1")
    entries = chosen(config.only)
    if config.list:
        print("\n".join(entries))
        return 0
    settings = Settings(repeats=config.repeats, small=config.small, full=config.full)
    print(_line(("", "value", "95 % interval", "budget", "")))
    rows = []
    for name, entry in entries.items():
        for row in entry(settings):
            rows.append((name, row if not config.small else dataclasses.replace(row, budget=None)))
            print(_table_line(*rows[-1]), flush=True)
    path = config.json or (None if config.only else RESULTS / f"{datetime.now(UTC).date()}.json")
    if path is not None:
        _write(path, config, rows)
        print(f"written {path}")
    return verdict([row for _, row in rows])


def chosen(only: Sequence[str]) -> dict[str, Entry]:
    """Return the entries by name, `group.entry`; UserError for a name that is neither of both."""
    groups = GROUPS if not only else tuple(dict.fromkeys(name.split(".")[0] for name in only))
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        raise UserError(f"--only {unknown[0]}: the groups are {', '.join(GROUPS)}")
    found = {
        f"{group}.{name}": entry
        for group in groups
        for name, entry in importlib.import_module(group).ENTRIES.items()
    }
    for name in only:
        if name not in found and name not in groups:
            raise UserError(f"--only {name}: the entries are {', '.join(found)}")
    return {
        name: entry for name, entry in found.items() if not only or name in only or name.split(".")[0] in only
    }


def verdict(rows: Sequence[Row]) -> int:
    """Return the exit code and print what was over its budget."""
    for status, text in (("over", "over budget"), ("BREACH", "beyond 1.5 times the budget")):
        names = [row.what for row in rows if row.status == status]
        if names:
            print(f"{text}: {'; '.join(names)}")
    return FAILED if any(row.status == "BREACH" for row in rows) else 0


def _table_line(name: str, row: Row) -> str:
    group = name.split(".")[0]
    if row.skipped:
        return f"{_line((f'{group}: {row.what}', 'skipped', '', _budget(row), ''))}{row.skipped}"
    value = f"{row.value:.4g} {row.unit}"
    interval = "" if math.isnan(row.low) else f"[{row.low:.4g}, {row.high:.4g}]"
    cells = (f"{group}: {row.what}", value, interval, _budget(row), row.status)
    times = ", ".join(f"{key} {_readable(value)}" for key, value in (row.seconds or {}).items())
    return f"{_line(cells)}{'; '.join(filter(None, (times, row.note)))}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS)) + "  "


def _budget(row: Row) -> str:
    return "" if row.budget is None else f"{row.budget.sign} {row.budget.limit:g}"


def _readable(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError


def _write(path: Path, config: BenchConfig, rows: Sequence[tuple[str, Row]]) -> None:
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeats": config.repeats,
        "small": config.small,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions()},
        "rows": [{"entry": name, **_plain(row)} for name, row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    installed = {dist.metadata["Name"].lower().replace("_", "-") for dist in metadata.distributions()}
    return {name: metadata.version(name) for name in PACKAGES if name in installed}


def _plain(row: Row) -> Mapping[str, Any]:
    fields = {**dataclasses.asdict(row), "status": row.status}
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in fields.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_main(run, BenchConfig, argv, prog="python benchmarks/run.py")


if __name__ == "__main__":
    sys.exit(main())
