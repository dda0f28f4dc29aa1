"""One self-contained HTML page per run, and an index page over several runs."""

from common.reporting.index import IndexEntry, write_index
from common.reporting.report import write_report

__all__ = ["IndexEntry", "write_index", "write_report"]
