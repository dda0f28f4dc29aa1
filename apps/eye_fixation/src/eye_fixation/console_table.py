"""The last console block of a comparison: every loss beside the reference predictions, best bits first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eye_fixation.metrics import HORIZONS
from eye_fixation.yardsticks import HUMAN, KERNEL, ORACLE

BESIDE = (ORACLE, HUMAN)
DOCUMENTED = ("white_pixel_recall", "white_pixel_precision", "f1_score")
_ABSENT = "-"


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table: `summary` by metric; `compat` is None for what is no trained model."""

    name: str
    summary: Mapping[str, Any]
    compat: Mapping[str, Any] | None = None
    below: bool = False
    """Whether a trained model has fewer bits than the history kernel."""


def mean_of(summary: Mapping[str, Any], metric: str) -> float:
    """Return the mean of a metric; NaN where it was not measured."""
    entry = summary.get(metric) or {}
    return math.nan if entry.get("mean") is None else float(entry["mean"])


def interval_of(summary: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    """Return the interval of a metric, or None without one."""
    low, high = (summary.get(metric) or {}).get("ci") or (None, None)
    return None if low is None or high is None else (float(low), float(high))


def summary_of(entry: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the metrics of a loss, a baseline or a reference; none for None and for a failed loss."""
    summary: Mapping[str, Any] = (entry or {}).get("summary", entry) or {}
    return summary


def rows_of(results: Mapping[str, Any]) -> list[Row]:
    """Return the losses with a result, the history kernel, oracle and human, those with most bits first."""
    kernel = summary_of((results.get("baselines") or {}).get(KERNEL))
    least = mean_of(kernel, "bits")
    rows = [Row(KERNEL, kernel), *(Row(name, summary_of(results.get(name))) for name in BESIDE)]
    for name, entry in results["losses"].items():
        summary = summary_of(entry)
        compat = (results.get("seed_compat") or {}).get(name)
        rows.append(Row(name, summary, compat or {}, below=mean_of(summary, "bits") < least))
    known = [row for row in rows if not math.isnan(mean_of(row.summary, "bits"))]
    return sorted(known, key=lambda row: -mean_of(row.summary, "bits"))


def far_horizon(out_len: int) -> int:
    """Return the largest horizon up to which errors are averaged."""
    return max(k for k in HORIZONS if k <= max(out_len, 1))


def level_of(results: Mapping[str, Any]) -> float:
    """Return the level of the intervals in per cent."""
    level = setting(results["config"], "ci")
    assert level is not None, "the settings of the comparison hold no ci"
    return 100 * float(level)


def setting(tree: Any, name: str) -> Any:
    """Return the first value of that name in a nested mapping, None without one."""
    if not isinstance(tree, Mapping):
        return None
    if name in tree:
        return tree[name]
    found = (setting(part, name) for part in tree.values())
    return next((value for value in found if value is not None), None)


def table_lines(results: Mapping[str, Any]) -> list[str]:
    """Return the block: the data, the head, a line per model, best bits first.

    A model with fewer bits than the history kernel is marked `below`; losses without a result are named.
    """
    far = far_horizon(int(results["data"]["out_len"]))
    columns = [list(column) for column in zip(*_cells(results, far))]
    padded = [_pad(cells, *style) for cells, style in zip(columns, _styles())]
    lines = [f"{'data':<8} {data_line(results['data'])}"]
    lines += ["".join(cells).rstrip() for cells in zip(*padded)]
    return lines + [f"{'failed':<8} {text}" for text in failures(results)]


def data_line(data: Mapping[str, Any]) -> str:
    """Return name, source, sizes, frames, rate and share of lit cells of the data."""
    counts = "/".join(str(data["sequences"][split]) for split in ("train", "val", "test"))
    parts = [str(data["source_name"]), str(data["source"]), f"{counts} sequences"]
    parts.append(f"{data['in_len']} -> {data['out_len']} frames")
    if data.get("rate_hz") is not None:
        parts.append(f"{data['rate_hz']:g} Hz")
    return "  ".join([*parts, f"prevalence {100 * data['prevalence']:.4f} %"])


def failures(results: Mapping[str, Any]) -> list[str]:
    """Return each run that failed with its error."""
    return [
        f"{name} seed {run['seed']}: {run.get('error')}"
        for name, entry in results["losses"].items()
        for run in entry.get("runs") or []
        if run.get("status") == "failed"
    ]


def _styles() -> Iterator[tuple[str, str, int]]:
    """Yield per column what stands before it, how it is set and its least width."""
    right = [6, 9, 5]
    yield ("", "<", 14)
    yield from (("  ", ">", width) for width in right)
    yield from ((" | ", ">", 5), (" ", "<", 0))
    yield from (("  ", ">", width) for width in (9, 5, 5, 5, 6, 5))


def _pad(cells: Sequence[str], before: str, side: str, least: int) -> list[str]:
    width = max(least, *map(len, cells))
    return [f"{before}{cell:{side}{width}}" for cell in cells]


def _cells(results: Mapping[str, Any], far: int) -> Iterator[list[str]]:
    yield [
        "loss", "recall", "precision", "F1", "bits", f"[{level_of(results):g} % CI]",
        "IG/kernel", "AP", "NSS", "MDE@1", f"MDE@{far}", "cov90",
    ]  # fmt: skip
    measured = [
        ("ap", 3),
        ("nss", 2),
        ("mde_argmax_at_1", 2),
        (f"mde_argmax_at_{far}", 2),
        ("coverage_90", 2),
    ]
    for row in rows_of(results):
        compat = {name: (row.compat or {}).get(name) for name in DOCUMENTED}
        documented = [_fixed(compat[name], places) for name, places in zip(DOCUMENTED, (4, 4, 3))]
        ends = interval_of(row.summary, "bits")
        gain = _fixed(_gain(row), 2)
        yield [
            row.name, *documented, _fixed(mean_of(row.summary, "bits"), 2),
            "" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]",
            f"below {gain}" if row.below else gain,
            *(_fixed(mean_of(row.summary, metric), places) for metric, places in measured),
        ]  # fmt: skip


def _gain(row: Row) -> float:
    gain = mean_of(row.summary, "ig_kernel")
    return 0.0 if row.name == KERNEL and math.isnan(gain) else gain


def _fixed(value: float | None, places: int) -> str:
    return _ABSENT if value is None or math.isnan(value) else f"{value:.{places}f}"
