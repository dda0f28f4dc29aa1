"""The verb `evaluate`: official scores of a checkpoint or of a file of predictions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.config import Finding, Parsed, UserError, check, has_no_effect
from common.engine.logging import Console
from mvfouls.annotations import Annotations, read_annotations
from mvfouls.config_verbs import EvaluateConfig, InferenceConfig
from mvfouls.console import percent, red_text, share
from mvfouls.judging import RED, RESAMPLES, leaderboard_interval
from mvfouls.official import Entry, Mode, OfficialScores, judge_official
from mvfouls.outputs import parts_report, write_result
from mvfouls.submission import read_predictions, shown

_NUMBERS = ("accuracy", "balanced", "leaderboard")
_log = logging.getLogger("mvfouls")


def main(parsed: Parsed[EvaluateConfig]) -> int:
    """Judge, print and write the JSON file; return exit code 0."""
    config, console = parsed.config, Console()
    check(findings(parsed), False, _log)
    truth, predictions = _from_file(config) if config.checkpoint is None else _from_checkpoint(config)
    modes: tuple[Mode, ...] = ("strict", "compat") if config.mode == "both" else (config.mode,)
    content = report_predictions(truth, predictions, modes, resamples=config.bootstrap)
    for warning in truth.warnings:
        console.line("warning", warning)
    for line in report_lines(content):
        console.raw(line)
    if config.json is not None:
        write_result(config.json, content)
        console.line("json", str(config.json))
    return 0


def findings(parsed: Parsed[EvaluateConfig]) -> Iterator[Finding]:
    """Yield every error and warning about the settings themselves; files are not looked at."""
    config, typed = parsed.config, parsed.typed
    if config.bootstrap < 0:
        yield Finding("error", "--bootstrap: not negative")
    if (config.checkpoint is None) == (config.predictions is None):
        yield Finding("error", "give --checkpoint and --split, or --predictions and --annotations")
    if config.predictions is not None and config.annotations is None:
        yield Finding("error", "--predictions needs --annotations, the labels to judge them by")
    if config.checkpoint is None:
        needless = [name for name in ("split", *InferenceConfig.__dataclass_fields__) if name in typed]
        for name in needless:
            yield Finding("warning", has_no_effect(name, "no --checkpoint is given"))


def report_predictions(
    truth: Annotations,
    predictions: Mapping[str, Entry],
    modes: Sequence[Mode] = ("strict", "compat"),
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Return every number as plain types, NaN where nothing can be said.

    Under each mode: the five official numbers in percent, the interval of the leaderboard value (classes that
    are absent left out), and number, recall and Wilson interval of each class. UserError when no action of
    the annotations counts.
    """
    scores = {mode: judge_official(truth, predictions, mode) for mode in modes}
    first = scores[modes[0]]
    if not first.ids:
        raise UserError(f"{truth.path}: none of {len(truth.actions)} actions has official labels")
    return {
        "annotations": str(truth.path),
        "set": truth.set_name,
        "actions": len(truth.actions),
        "counted": len(first.ids),
        "unpredicted": list(first.unpredicted),
        "unasked": list(first.unasked),
        "red_samples": int(first.os.count[RED]),
        "modes": {mode: _mode_report(found, resamples) for mode, found in scores.items()},
    }


def report_lines(content: Mapping[str, Any]) -> list[str]:
    """Return what `report_predictions` found as text."""
    lines = [f"{content['counted']} of {content['actions']} actions count officially"]
    if content["unpredicted"]:
        number = len(content["unpredicted"])
        lines.append(f"  {number} without a prediction, counted as wrong: {shown(content['unpredicted'])}")
    if content["unasked"]:
        number = len(content["unasked"])
        lines.append(
            f"  {number} predictions for actions that are not annotated: {shown(content['unasked'])}"
        )
    for mode, found in content["modes"].items():
        lines += _mode_lines(mode, found)
    warning = red_text(content["red_samples"])
    return lines if warning is None else [*lines, f"  {warning}"]


def _mode_report(scores: OfficialScores, resamples: int) -> dict[str, Any]:
    interval = leaderboard_interval(scores, resamples=resamples)
    ends = {f"leaderboard_{end}": 100 * float(getattr(interval, end)) for end in ("low", "high")}
    return {**scores.to_dict(), **ends, **parts_report(scores)}


def _mode_lines(mode: str, found: Mapping[str, Any]) -> Iterator[str]:
    low, high = (percent(found[f"leaderboard_{end}"] / 100) for end in ("low", "high"))
    value = {name: percent(found[name] / 100) for name in found if name.split("_")[0] in _NUMBERS}
    yield (
        f"{mode:<7} LB {value['leaderboard_value']} [{low}-{high}]"
        f" | OS BA {value['balanced_accuracy_offence_severity']} acc {value['accuracy_offence_severity']}"
        f" | action BA {value['balanced_accuracy_action']} acc {value['accuracy_action']}"
    )
    for title, part in (("OS", "os"), ("action", "action")):
        yield f"  {title:<20}      n  recall"
        for row in found[part]:
            ends = f"   [{share(row['low'])}-{share(row['high'])}]" if row["n"] else ""
            yield f"    {row['name']:<18} {row['n']:>6}  {share(row['recall']):>6}{ends}"


def _from_file(config: EvaluateConfig) -> tuple[Annotations, dict[str, dict[str, str]]]:
    assert config.annotations is not None
    assert config.predictions is not None
    truth = read_annotations(config.annotations, unknown=config.unknown_labels, labelled=True)
    return truth, read_predictions(config.predictions)


def _from_checkpoint(config: EvaluateConfig) -> tuple[Annotations, dict[str, dict[str, str]]]:
    """Return the labels of the split and what the model predicts for it."""
    from mvfouls.predict import predict_split  # a file of predictions needs neither torch nor a network

    truth: Annotations
    predictions: dict[str, dict[str, str]]
    truth, predictions = predict_split(config)
    return truth, predictions
