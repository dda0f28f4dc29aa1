"""The verb `predict`: classes of every action with their confidence, and what each view says."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from common.config import Finding, Parsed, check, has_no_effect, writing
from common.engine.logging import Console
from common.engine.manifest import replace_text
from mvfouls.annotations import Annotations, read_annotations
from mvfouls.card import ModelCard, Trained
from mvfouls.config_verbs import EvaluateConfig, PredictConfig
from mvfouls.console import NOTHING, share
from mvfouls.explanation import explain
from mvfouls.inference import (
    cache_of,
    calibration_for,
    check_target,
    header_lines,
    infer,
    inference_findings,
    official_entries,
    open_trained,
    policies_of,
)
from mvfouls.layout import find_split
from mvfouls.own_clips import clips_in, named_clips
from mvfouls.predict_page import write_page
from mvfouls.prediction_files import csv_text
from mvfouls.projection import missing_heads
from mvfouls.settings import CacheSettings
from mvfouls.split import Split, SplitReport, open_clips, open_split

SHOWN = 10
"""Actions on the console."""
KIND = "mvfouls predictions"

_log = logging.getLogger("mvfouls")


def main(parsed: Parsed[PredictConfig]) -> int:
    """Predict, print, and write the file and its page; return exit code 0."""
    config, console = parsed.config, Console()
    check(findings(parsed), False, _log)
    check_target(config.out, "--out")
    trained = open_trained(config.checkpoint, config.inference.device)
    calibration = calibration_for(trained.card, config.calibration)
    split, cache = open_input(config, trained.card)
    for label, text in header_lines(trained, split, config.inference):
        console.line(label, text)
    found = infer(trained, split, config.inference, cache=cache, alone=True, console=console)
    actions = explain(trained.card, split, found, calibration=calibration, top_k=config.top_k)
    content = {**about(config, trained, split), "actions": actions}
    for name, action in list(actions.items())[:SHOWN]:
        console.line("action", action_line(name, action))
    if len(actions) > SHOWN:
        console.line("action", f"and {len(actions) - SHOWN} more in {config.out}")
    for line in _write(config, content, split):
        console.line("written", line)
    return 0


def findings(parsed: Parsed[PredictConfig]) -> Iterator[Finding]:
    """Yield every error and warning about the settings themselves; files are not looked at."""
    config, typed = parsed.config, parsed.typed
    given = [config.split is not None, config.action_dir is not None, bool(config.clips)]
    if sum(given) != 1:
        yield Finding("error", "give one of --split, --action_dir and --clips")
    if config.out.suffix.lower() not in (".json", ".csv"):
        yield Finding("error", f"--out {config.out}: a name that ends in .json or .csv is expected")
    for flag, value, least in (("--top_k", config.top_k, 1), ("--page_actions", config.page_actions, 0)):
        if value < least:
            yield Finding("error", f"{flag} {value}: at least {least} is expected")
    yield from inference_findings(config.inference)
    if "dataset_root" in typed and config.split is None:
        yield Finding("warning", has_no_effect("dataset_root", "no --split is given"))


def open_input(config: PredictConfig, card: ModelCard) -> tuple[Split, CacheSettings]:
    """Return the clips that were asked for and the store their windows may be in; labels are not read."""
    inference, frames = config.inference, card.pixels.frames
    policies = policies_of(inference)
    if config.split is not None:
        source = find_split(inference.dataset_root, config.split)
        split = open_split(source, policies, card.views, frames, labelled=False)
        return split, cache_of(inference, inference.dataset_root)
    clips = named_clips(config.clips) if config.action_dir is None else clips_in(config.action_dir)
    folder = config.action_dir or config.clips[0].parent
    return open_clips(clips, folder, policies, card.views, frames), cache_of(inference, None)


def predict_split(config: EvaluateConfig) -> tuple[Annotations, dict[str, dict[str, str]]]:
    """Return the labels of the split to judge, and the official predictions of the checkpoint for it."""
    inference, console = config.inference, Console()
    check(inference_findings(inference), False, _log)
    assert config.checkpoint is not None
    source = find_split(inference.dataset_root, config.split)
    if config.annotations is not None:
        source = replace(source, annotations=config.annotations)
    truth = read_annotations(source.annotations, unknown=config.unknown_labels, labelled=True)
    trained = open_trained(config.checkpoint, inference.device)
    card = trained.card
    split = open_split(source, policies_of(inference), card.views, card.pixels.frames, labelled=False)
    for label, text in header_lines(trained, split, inference):
        console.line(label, text)
    cache = cache_of(inference, inference.dataset_root)
    return truth, official_entries(trained, split, inference, cache=cache, console=console)


def about(config: PredictConfig, trained: Trained, split: Split) -> dict[str, Any]:
    """Return what the file says of itself, as plain types."""
    card = trained.card
    return {
        "kind": KIND,
        "checkpoint": str(trained.path),
        "epoch": trained.epoch,
        "step": trained.step,
        "averaged_weights": trained.averaged,
        "backbone": card.model.backbone,
        "source": str(split.source.folder),
        "split": config.split,
        "frames": list(card.pixels.frames.indices()),
        "tta": config.inference.tta,
        "calibration": None if config.calibration is None else str(config.calibration),
        "tasks": {task: list(classes) for task, classes in card.tasks.items()},
        "projection": asdict(card.projection),
        "official_lacks": missing_heads(card.tasks),
        "left_out": left_out(split.report, short=config.inference.short_clip == "skip"),
    }


def left_out(report: SplitReport, *, short: bool) -> list[dict[str, str]]:
    """Return the clips that are listed and not used, with the reason; `short`: those are left out too."""
    reasons = dict.fromkeys(report.missing, "missing")
    reasons |= {fault.clip: fault.reason for fault in report.undecodable}
    reasons |= dict.fromkeys(report.short if short else (), "ends inside the window")
    return [{"clip": name, "reason": reason} for name, reason in reasons.items()]


def action_line(name: str, action: Mapping[str, Any]) -> str:
    """Return what is said of an action: classes with their probability, and the share of each view."""
    parts = []
    for task, found in action["tasks"].items():
        classes = (f"{row['class']} {share(row['probability'])}" for row in found["top"])
        parts.append(f"{task} {', '.join(classes)}")
    views = " ".join(share(view["attention"]) if view["used"] else NOTHING for view in action["views"])
    return f"{name:>4}   {' | '.join(parts)} | views {views}"


def _write(config: PredictConfig, content: dict[str, Any], split: Split) -> Iterator[str]:
    """Write the file and the page beside it; yield a line about each."""
    as_table = config.out.suffix.lower() == ".csv"
    text = csv_text(content) if as_table else json.dumps(content, indent=1, allow_nan=False) + "\n"
    with writing(f"--out {config.out}"):
        replace_text(config.out, text)
        yield str(config.out)
        if config.page_actions:
            page = config.out.with_suffix(".html")
            made = write_page(page, content, split, limit=config.page_actions)
            yield f"{page}" + (f"   {made} clips that no browser plays as moving pictures" if made else "")
