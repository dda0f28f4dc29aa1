"""The tables of the report: results, documented numbers, baselines, comparisons, runs, how it was made."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from common.reporting.html import Html, duration, interval, is_number, join, node, number, percent, table
from common.reporting.provenance import settings
from eye_fixation.console_table import (
    BESIDE,
    Row,
    failures,
    far_horizon,
    interval_of,
    level_of,
    mean_of,
    rows_of,
    summary_of,
)
from eye_fixation.metrics import HORIZONS
from eye_fixation.report_data import Evidence, Result
from eye_fixation.results import CAVEAT
from eye_fixation.statistics import NO_RANKING

COMPAT = (
    ("best_val_loss", "Best val loss"),
    ("final_train_loss", "Final train loss"),
    ("test_loss", "Test loss"),
    ("white_pixel_recall", "Recall"),
    ("white_pixel_precision", "Precision"),
    ("f1_score", "F1"),
)


def main_table(evidence: Evidence) -> Html:
    """Return the table of the console with the bits before calibration beside."""
    far = far_horizon(int(evidence.data["out_len"]))
    level = f"{level_of(evidence.first.content):g} % interval"
    columns = ["Prediction", "Recall", "Precision", "F1", "Bits", level, "raw", "IG / kernel", "AP", "NSS"]
    columns += ["MDE@1", f"MDE@{far}", "Cov 90"]
    found = [
        (mean_of(row.summary, "bits"), _main_row(result, row, far))
        for place, result in enumerate(evidence.results)
        for row in rows_of(result.content)
        if row.compat is not None or place == 0
    ]
    rows = [cells for _, cells in sorted(found, key=lambda item: -item[0])]
    return node("div", table(columns, rows), attributes={"style": "font-size:13.5px"})


def _main_row(result: Result, row: Row, far: int) -> list[str]:
    compat = row.compat or {}
    bits, ends = mean_of(row.summary, "bits"), interval_of(row.summary, "bits")
    note = node("div", node("span", "below the kernel", css="chip warn")) if row.below else Html("")
    name = node("b", result.named(row.name)) if row.compat is not None else node("i", row.name)
    return [
        join([name, note]),
        *(_places(compat.get(key), 4) for key, _ in COMPAT[3:]),
        node("b", f"{bits:.2f}"),
        "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}",
        _places(raw_bits(result.content["losses"].get(row.name)), 2) if row.compat is not None else "-",
        _places(mean_of(row.summary, "ig_kernel"), 2),
        _places(mean_of(row.summary, "ap"), 4),
        *(
            _places(mean_of(row.summary, metric), 2)
            for metric in ("nss", "mde_argmax_at_1", f"mde_argmax_at_{far}")
        ),
        _places(mean_of(row.summary, "coverage_90"), 2),
    ]


def raw_bits(entry: Mapping[str, Any] | None) -> float:
    """Return the bits before calibration, the mean over finished runs; NaN without any."""
    runs = [run for run in (entry or {}).get("runs", []) if run["status"] == "ok"]
    values = [run["metrics"]["raw"].get("bits") for run in runs]
    return float(np.mean(values)) if values and None not in values else math.nan


def documented_table(evidence: Evidence) -> Html:
    """Return the documented numbers of every loss with the caveat that belongs to them."""
    columns = ["Loss", *(title for _, title in COMPAT), "Converged"]
    rows = [
        [
            model.label + ("*" if model.entry["kind"] == "categorical" else ""),
            *(_places(model.compat.get(key), 4) for key, _ in COMPAT),
            "yes" if model.compat.get("converged") else "no",
        ]
        for model in evidence.models
    ]
    starred = any(model.entry["kind"] == "categorical" for model in evidence.models)
    star = " * Output without a zero point, where .5 means nothing." if starred else ""
    return join([table(columns, rows), node("p", CAVEAT + "." + star, css="finding")])


def baselines_table(result: Result) -> Html:
    """Return every baseline of a result file with what it was judged by."""
    steps = [k for k in HORIZONS if k <= int(result.data["out_len"])]
    metrics = [("bits", "Bits", 2), ("ig_center", "IG / center", 2), ("ig_kernel", "IG / kernel", 2)]
    metrics += [("ap", "AP", 4), ("auc", "AUC", 3), ("nss", "NSS", 2), ("top1", "Top 1", 3)]
    metrics += [(f"mde_argmax_at_{k}", f"MDE@{k}", 2) for k in steps]
    entries = dict(result.content.get("baselines") or {})
    entries |= {name: result.content.get(name) for name in BESIDE if result.content.get(name)}
    rows = [
        [name, *(_places(mean_of(summary_of(entry), metric), places) for metric, _, places in metrics)]
        for name, entry in entries.items()
    ]
    return table(["Baseline", *(title for _, title, _ in metrics)], rows)


def pairs_table(result: Result) -> Html:
    """Return the paired differences between losses and to the history kernel, with Holm's p."""
    comparison = result.content["comparison"]
    metric = comparison["metric"]
    columns = ["First", "Second", f"Difference in {metric}", f"{level_of(result.content):g} % interval"]
    rows = []
    for pair in comparison["pairs"]:
        low, high = pair.get("ci") or (None, None)
        p = pair.get("p_holm")
        clear = p is not None and p < 0.05
        rows.append(
            [
                pair["a"],
                pair["b"],
                node("b", f"{pair['difference']:+.3f}"),
                interval(low, high),
                "-" if p is None else f"{p:.4f}",
                node("span", "differs", css="chip good") if clear else Html(""),
            ]
        )
    return table([*columns, "p (Holm)", "Note"], rows, text_columns=2)


def ranking_sentence(result: Result) -> str:
    """Return the ranking, or that there is none and why."""
    comparison = result.content["comparison"]
    if comparison.get("ranking_supported"):
        return f"Ranking by {comparison['metric']}, best first: {', '.join(comparison['ranking'])}."
    return f"No ranking is supported: {NO_RANKING}."


def runs_table(result: Result) -> Html:
    """Return every run: what it trained, how long, and how it ended."""
    columns = ["Loss", "Seed", "Epochs", "Best epoch", "Best val loss", "Tau", "Lambda", "Time", "ms / step"]
    return table([*columns, "Note"], list(_run_rows(result)))


def _run_rows(result: Result) -> Iterator[list[str]]:
    for name, entry in result.content["losses"].items():
        for run in entry["runs"]:
            calibration = run.get("calibration") or {}
            failed = run["status"] == "failed"
            yield [
                name,
                str(run["seed"]),
                *(number(run.get(key)) for key in ("epochs", "best_epoch", "best_val_loss")),
                *(number(calibration.get(key)) for key in ("tau", "lambda")),
                duration(run["seconds"]) if run.get("seconds") is not None else "n/a",
                number(run.get("step_ms")),
                node("span", f"failed: {run.get('error')}", css="chip bad") if failed else Html(""),
            ]


def losses_table(result: Result) -> Html:
    """Return what each loss is and how it started."""
    columns = ["Loss", "Output", "Hyper-parameters", "Prior bias", "Parameters", "Initial weights"]
    rows = []
    for name, entry in result.content["losses"].items():
        bias = entry.get("prior_bias")
        rows.append(
            [
                name,
                str(entry.get("kind", "")),
                json.dumps(entry.get("hyperparameters") or {}).strip("{}").replace('"', "") or "none",
                f"{bias:.6f}" if is_number(bias) else "-",
                number(entry.get("parameters")),
                _hashes(entry.get("initial_state_sha256")),
            ]
        )
    return table(columns, rows, text_columns=3)


def _hashes(value: Any) -> str:
    """Return the first letters of one hash or of several, one per seed."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    return ", ".join(str(part)[:10] for part in parts if part)


def warnings_list(evidence: Evidence) -> Html | None:
    """Return warnings and failed runs of all files, None without any."""
    lines = [
        (result, css, line)
        for result in evidence.results
        for css, lines in (("bad", failures(result.content)), ("warn", result.content.get("warnings") or []))
        for line in lines
    ]
    if not lines:
        return None
    label = {"bad": "failed", "warn": "warning"}
    return join(
        node(
            "p",
            node("span", label[css], css=f"chip {css}"),
            f"{result.label}: {line}" if result.label else line,
            css="finding",
        )
        for result, css, line in lines
    )


def provenance(result: Result) -> Html:
    """Return command, data, configuration and environment of a result file."""
    content = result.content
    command = content.get("command")
    text = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
    parts = [node("pre", text)] if command else []
    for title, key in (("Data", "data"), ("Configuration", "config"), ("Environment", "environment")):
        if content.get(key):
            parts.append(node("details", node("summary", title), settings(content[key])))
    return join(parts)


def facts(pairs: Sequence[tuple[str, str]]) -> Html:
    """Return short facts side by side."""
    return node("dl", *(node("div", node("dt", k), node("dd", v)) for k, v in pairs), css="facts")


def data_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of the data, for `facts`."""
    counts = " / ".join(f"{data['sequences'][split]:,}" for split in ("train", "val", "test"))
    rate = data.get("rate_hz")
    return [
        ("data", str(data["source_name"])),
        ("source", str(data["source"])),
        ("train / val / test sequences", counts),
        ("frames", f"{data['in_len']} -> {data['out_len']}" + ("" if rate is None else f" at {rate:g} Hz")),
        ("lit cells", percent(data["prevalence"])),
        ("split by", str(data.get("split_by") or "unknown")),
    ]


def _places(value: float | None, places: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{places}f}"
