"""Settings of the report. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Draw result files as one page."""

    results: tuple[Path, ...] = ()
    """Result files, several side by side if they were judged on the same test frames. Default: that of the
    latest run under runs/eye_fixation."""
    out: Path = Path("report.html")
    """Page to write."""
