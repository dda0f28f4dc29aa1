"""A trained network on clips: what `evaluate`, `predict` and `submit` do alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from common.config import Finding, UserError, writing
from common.engine.distributed import pick_device
from common.engine.logging import Console
from mvfouls.calibration import OFFICIAL, Calibration, read_calibration
from mvfouls.card import ModelCard, Trained, load_trained
from mvfouls.clips import ClipSource
from mvfouls.config_verbs import InferenceConfig
from mvfouls.dataset import FoulDataset
from mvfouls.labels import TaskLabels, task_labels
from mvfouls.parts_shared import CACHE_FOLDER
from mvfouls.predictor import Floats, Predictions, predict_all
from mvfouls.projection import Projected, missing_heads, project_probabilities
from mvfouls.settings import CacheSettings, Policies
from mvfouls.split import Split
from mvfouls.submission import entries_of

PROGRESS_SECONDS = 10.0


def inference_findings(inference: InferenceConfig) -> Iterator[Finding]:
    """Yield every error in the settings."""
    for flag, value, least in (
        ("--batch_size", inference.batch_size, 1),
        ("--num_workers", inference.num_workers, 0),
    ):
        if value < least:
            yield Finding("error", f"{flag} {value}: at least {least} is expected")


def open_trained(checkpoint: Path, device: str) -> Trained:
    """Return the model of a run or checkpoint folder; UserError for a folder or device that is not there."""
    try:
        chosen = pick_device(device)
    except ValueError as error:
        raise UserError(f"--device {device}: {error}") from error
    return load_trained(checkpoint, chosen)


def task_labels_of(card: ModelCard) -> dict[str, TaskLabels]:
    """Return the classes of the model's tasks; UserError when they are not those it was trained with."""
    tasks = {name: task_labels(name, card.junk_ids) for name in card.tasks}
    for name, classes in card.tasks.items():
        if tasks[name].classes != classes:
            raise UserError(
                f"--checkpoint: {name} was trained with the classes {', '.join(classes)}; this version has "
                f"{', '.join(tasks[name].classes)}"
            )
    return tasks


def policies_of(inference: InferenceConfig) -> Policies:
    """Return what happens to clips that cannot be used."""
    return Policies(missing_clip=inference.missing_clip, short_clip=inference.short_clip)


def cache_of(inference: InferenceConfig, root: Path | None) -> CacheSettings:
    """Return the store of windows: the folder that was given, else that of the data set if there is one.

    A single pass over the clips does not pay for a store of its own.
    """
    folder = inference.cache_dir
    if folder is None and root is not None and (root / CACHE_FOLDER).is_dir():
        folder = root / CACHE_FOLDER
    return CacheSettings(folder=folder, format=inference.cache_format)


def infer(
    trained: Trained,
    split: Split,
    inference: InferenceConfig,
    *,
    cache: CacheSettings,
    alone: bool = False,
    console: Console | None = None,
) -> Predictions:
    """Return what a model says about every action of a split that has a view, without looking at any label.

    `alone` asks for that about each view by itself, too; `console` gets a line now and then. UserError when
    no action has a view, and for a clip that cannot be decoded.
    """
    card = trained.card
    clips = ClipSource(card.pixels.frames, cache, policies_of(inference), jitter=0)
    dataset = FoulDataset(split, clips, card.pixels, card.views, None, task_labels_of(card), seed=0)
    if not len(dataset):
        raise UserError(f"{split.source.folder}: no action has a readable view")
    return predict_all(
        trained.model,
        card.scores,
        dataset,
        device=next(trained.model.parameters()).device,
        batch_size=inference.batch_size,
        workers=inference.num_workers,
        flipped=inference.tta,
        alone=alone,
        progress=None if console is None else progress(console, "predict", len(dataset)),
    )


def official_entries(
    trained: Trained,
    split: Split,
    inference: InferenceConfig,
    *,
    cache: CacheSettings,
    calibration: Calibration | None = None,
    console: Console | None = None,
) -> dict[str, dict[str, str]]:
    """Return the official predictions by action id, for the actions that have a view.

    UserError as `infer`, and for a model without the heads for them.
    """
    lacking = missing_heads(trained.card.tasks)
    if lacking is not None:
        raise UserError(
            f"--checkpoint {trained.path}: no official prediction without a head for the task {lacking}"
        )
    found = infer(trained, split, inference, cache=cache, console=console)
    projected = project(trained.card, found.probabilities, calibration)
    assert projected is not None
    return entries_of(found.actions, projected)


def project(
    card: ModelCard, probabilities: Mapping[str, Floats], calibration: Calibration | None = None
) -> Projected | None:
    """Return the official predictions for probabilities [B, K] of each task; None without the heads for them.

    The offsets of `calibration` are applied where it has some.
    """
    if missing_heads(card.tasks) is not None:
        return None
    projected = project_probabilities(probabilities, task_labels_of(card), card.projection)
    return projected if calibration is None else calibration.adjust(projected)


def calibration_for(card: ModelCard, path: Path | None) -> Calibration | None:
    """Return the offsets of a file; UserError when they were fitted with other classes than the model's."""
    if path is None:
        return None
    calibration = read_calibration(path)
    calibration.check_classes({**card.tasks, **OFFICIAL}, path)
    return calibration


def check_target(path: Path, flag: str) -> None:
    """Make the folder of a file to be written; UserError, before anything is computed, when that fails."""
    with writing(f"{flag} {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder")


def header_lines(trained: Trained, split: Split, inference: InferenceConfig) -> Iterator[tuple[str, str]]:
    """Yield label and text of what is about to be computed from what."""
    card = trained.card
    averaged = " averaged weights" if trained.averaged else ""
    device = next(trained.model.parameters()).device
    yield (
        "model",
        f"{card.model.backbone} from {trained.path}   epoch {trained.epoch} step {trained.step}{averaged}   "
        f"{device}{'   with mirror images' if inference.tta else ''}",
    )
    yield from (("data", line) for line in split.report.lines())
    rule, pixels = card.pixels.frames, card.pixels
    yield (
        "data",
        f"window {rule.indices()[0]}..{rule.indices()[-1]} T={rule.count} {rule.seconds:.2f} s | "
        f"input {pixels.height}x{pixels.width}",
    )


def progress(console: Console, label: str, total: int) -> Callable[[int], None]:
    """Return what prints how far the work is, every few seconds."""
    started = said = time.monotonic()
    done = 0

    def count(samples: int) -> None:
        nonlocal done, said
        done += samples
        now = time.monotonic()
        if now - said >= PROGRESS_SECONDS:
            said = now
            console.line(label, f"{done}/{total}   {done / (now - started):.2f} per second")

    return count
