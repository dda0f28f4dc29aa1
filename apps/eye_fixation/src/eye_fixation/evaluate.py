"""A trained model or a baseline, judged on one split."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from common.config import (
    NOT_NEGATIVE,
    Finding,
    Parsed,
    Range,
    UserError,
    check,
    has_no_effect,
    out_of_range,
    writing,
)
from common.engine.command import choose_device
from common.engine.logging import Console
from common.engine.manifest import replace_text
from common.metrics.ranking import Threshold
from eye_fixation.baseline_fit import FITS
from eye_fixation.config import DataConfig, EvaluateConfig
from eye_fixation.data.contract import GazeData
from eye_fixation.data.pt import check_matches
from eye_fixation.metrics import Scores, judge
from eye_fixation.predictor import Predictor
from eye_fixation.statistics import GroupStatistics, null_warnings, without_nan
from eye_fixation.study import Sequences, Study, open_study
from eye_fixation.yardsticks import CENTER, CPU, KERNEL, fit, refer, score

_log = logging.getLogger("eye_fixation")
RANGES = {NOT_NEGATIVE: ("bootstrap",), Range(0, 1, above=True, below=True): ("ci",)}
SHOWN = ("bits", "ig_uniform", "ig_kernel", "ap", "nss", "auc", "top1", "coverage_90")


@dataclass(frozen=True)
class Judged:
    """Scores with what is said about where they come from."""

    scores: Scores
    facts: dict[str, Any]


def main(parsed: Parsed[EvaluateConfig]) -> int:
    """Judge, print, write; return 0."""
    config, console = parsed.config, Console()
    check(_findings(parsed), True, _log)
    study, judged = (
        judge_model(config, console) if config.checkpoint is not None else judge_baseline(config, console)
    )
    statistics = GroupStatistics(study.groups(config.split), resamples=config.bootstrap, level=config.ci)
    summary = statistics.summary([judged.scores])
    facts = judged.facts | {"split": config.split, "used_for_calibration": config.split == "val"}
    for line in _lines(summary, facts, len(getattr(study.splits, config.split))):
        console.raw(line)
    if config.out is not None:
        content, places = without_nan(
            {
                "schema": 1,
                "kind": "evaluation",
                **facts,
                "data": {"dir": str(study.folder), "sha256": study.sha256, "source": study.metadata.source},
                "summary": summary,
                "curves": judged.scores.curves,
            }
        )
        content["warnings"] = [*statistics.warnings, *null_warnings(places)]
        with writing(f"--out {config.out}"):
            config.out.parent.mkdir(parents=True, exist_ok=True)
            replace_text(config.out, json.dumps(content, indent=1, allow_nan=False) + "\n")
        console.raw(f"written  {config.out}")
    return 0


def judge_model(config: EvaluateConfig, console: Console) -> tuple[Study, Judged]:
    """Judge a checkpoint; everything but the data comes from it."""
    assert config.checkpoint is not None
    predictor = Predictor.load(config.checkpoint, device=choose_device(config.device))
    file = predictor.file
    data = DataConfig(
        data_dir=config.data_dir,
        coord_order=config.coord_order,
        in_len=predictor.in_len,
        out_len=predictor.out_len,
        input_sigma=file.input_sigma,
    )
    study = open_study(data, console)
    split: GazeData = getattr(study.splits, config.split)
    check_matches(split, file.metadata, str(predictor.path))
    sequences = Sequences.of(split, data, CPU)
    stored = {baseline.name: baseline for baseline in file.baselines}
    scores = judge(
        predictor.predict(*sequences.past),
        *sequences.future,
        sequences.last_input,
        references=refer(study, data, stored, config.split),
        threshold=Threshold.from_dict(
            file.thresholds["calibrated" if "calibrated" in file.thresholds else "raw"]
        ),
        geometry=study.metadata.geometry,
    )
    facts = {
        "model": str(predictor.path),
        "loss": file.loss,
        "seed": file.seed,
        "calibration": file.calibration.to_dict(),
        "trained_on_these_files": file.sha256 == study.sha256,
    }
    return study, Judged(scores, facts)


def judge_baseline(config: EvaluateConfig, console: Console) -> tuple[Study, Judged]:
    """Fit a baseline on train and val of the data, and judge it."""
    name = config.baseline
    assert name is not None
    data = DataConfig(data_dir=config.data_dir, coord_order=config.coord_order)
    study = open_study(data, console)
    baselines = fit(study, data, config.split)
    if name not in baselines:
        raise UserError(f"--baseline {name}: these data permit {', '.join(baselines)}")
    references = refer(study, data, {key: baselines[key] for key in (KERNEL, CENTER)}, config.split)
    scores = score(baselines[name], getattr(study.splits, config.split), data, references)
    return study, Judged(scores, {"baseline": name})


def _findings(parsed: Parsed[EvaluateConfig]) -> list[Finding]:
    config, found = parsed.config, []
    if (config.checkpoint is None) == (config.baseline is None):
        found.append("--checkpoint MODEL or --baseline NAME: exactly one of them is expected")
    elif config.baseline is not None:
        if config.baseline not in FITS:
            found.append(f"--baseline {config.baseline}: one of {', '.join(FITS)} is expected")
        if "device" in parsed.typed:
            found.append(has_no_effect("device", "a baseline has no network"))
    if "ci" in parsed.typed and not config.bootstrap:
        found.append(has_no_effect("ci", "--bootstrap is 0"))
    return [*out_of_range(config, RANGES), *(Finding("error", text) for text in found)]


def _lines(summary: dict[str, Any], facts: dict[str, Any], count: int) -> list[str]:
    who = facts.get("baseline") or f"{facts['loss']} (seed {facts['seed']})"
    note = "  (used for calibration)" if facts["used_for_calibration"] else ""
    lines = [f"judged   {who} on {facts['split']}: {count} sequences{note}"]
    for name in SHOWN:
        entry = summary.get(name)
        if entry is None or entry["mean"] != entry["mean"]:
            continue
        ends = "" if entry["ci"] is None else f"  [{entry['ci'][0]:.3f}, {entry['ci'][1]:.3f}]"
        lines.append(f"         {name:<12} {entry['mean']:.3f}{ends}")
    errors = [
        f"@{k} {summary[f'mde_argmax_at_{k}']['mean']:.2f}"
        for k in (1, 3, 6, 10)
        if f"mde_argmax_at_{k}" in summary
    ]
    return [*lines, f"         mde_argmax   {'  '.join(errors)} cells"]
