"""The verb `evaluate`: judge a checkpoint on whole photos."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from common.config import (
    NOT_NEGATIVE,
    Finding,
    Parsed,
    Range,
    check,
    has_no_effect,
    out_of_range,
    to_yaml,
    writing,
)
from common.engine.command import choose_device
from common.engine.logging import Console
from uav_landing.checks import OVERLAP
from uav_landing.config import EvaluateConfig
from uav_landing.evaluation_data import JudgedPhotos, open_photos
from uav_landing.evaluation_output import console_lines, result, weigh, write_json
from uav_landing.evaluation_page import write_html
from uav_landing.judging import judge
from uav_landing.rebuild import Trained, load_trained

FEW_GROUPS = 10

RANGES = {OVERLAP: ("tile_overlap",), Range(1): ("tile_batch",), NOT_NEGATIVE: ("bootstrap",)}

_log = logging.getLogger("uav_landing")


def main(parsed: Parsed[EvaluateConfig]) -> int:
    """Judge, print, write the JSON file and the report; return the exit code 0."""
    check(findings(parsed), False, _log)
    config, console = parsed.config, Console()
    trained = load_trained(config.checkpoint)
    json_path, html_path = _destination(config.json, trained), _destination(config.html, trained)
    photos = open_photos(parsed, trained, console)
    predictor = trained.predictor(
        device=choose_device(config.device),
        overlap=config.tile_overlap,
        batch=config.tile_batch,
        tta=config.tta,
    )
    for label, text in _header(config, trained, photos):
        console.line(label, text)
    judged = judge(predictor, photos.dataset, trained.class_ids, photos.groups, progress=_show_progress)
    verdict = weigh(judged, photos, config.split, config.bootstrap)
    for line in console_lines(verdict):
        console.raw(line)
    if json_path is not None:
        write_json(json_path, result(verdict, trained, photos, predictor))
        console.line("json", str(json_path))
    if html_path is not None:
        settings = to_yaml(config, typed=parsed.typed)
        write_html(html_path, verdict, trained, photos, settings)
        console.line("report", str(html_path))
    return 0


def findings(parsed: Parsed[EvaluateConfig]) -> Iterator[Finding]:
    """Yield every error and warning about the settings themselves; data are not looked at."""
    config, typed = parsed.config, parsed.typed
    yield from out_of_range(config, RANGES)
    if (config.split_file is not None) != (config.split_mode == "file"):
        yield Finding("error", "--split-file and --split-mode file belong together")
    if config.split == "all" and "split_mode" in typed:
        yield Finding("warning", has_no_effect("split_mode", "--split all judges every photo"))
    if "split_seed" in typed and (config.split == "all" or config.split_mode not in {"random", "auto"}):
        yield Finding("warning", has_no_effect("split_seed", "the split is not random"))


def _header(config: EvaluateConfig, trained: Trained, photos: JudgedPhotos) -> list[tuple[str, str]]:
    block, groups = trained.metadata["model"], len(set(photos.groups))
    tile = "x".join(map(str, trained.metadata["input_size"]))
    flips = "   8 flips and turns" if config.tta else ""
    return [
        *(("warning", note) for note in trained.notes),
        ("model", f"{block['model_type']}   {trained.path}   epoch {trained.epoch}   step {trained.step}"),
        (
            "data",
            f"{photos.photos.format}: {config.split} ({photos.how})   photos {len(photos.ids)}   "
            f"groups {groups}   scale {photos.store.scale:g}, metrics at this scale",
        ),
        ("window", f"tiles {tile}   overlap {config.tile_overlap:g}{flips}"),
        *(("note", remark) for remark in photos.remarks),
        *_interval_notes(config, groups),
    ]


def _interval_notes(config: EvaluateConfig, groups: int) -> list[tuple[str, str]]:
    if not config.bootstrap:
        return []
    if groups < 2:
        return [("note", "no intervals: they need at least 2 groups of photos")]
    few = "; so few make it too narrow" if groups < FEW_GROUPS else ""
    return [("note", f"[low, high]: 95 % interval, {config.bootstrap} resamples of {groups} groups{few}")]


def _destination(path: Path | None, trained: Trained) -> Path | None:
    """Return where to write, with its folder made; UserError when that is impossible."""
    if path is None:
        return None
    where = trained.run_folder / path
    with writing(str(where)):
        where.parent.mkdir(parents=True, exist_ok=True)
    return where


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done}/{total} photos{chr(10) if done == total else ''}")
        sys.stderr.flush()
