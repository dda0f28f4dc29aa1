"""Flags of both training command lines that contradict each other, or name what there is not."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from common.config import Finding, Parsed, UserError
from mvfouls.architectures import Architecture
from mvfouls.augment_presets import AugmentValues, Strength
from mvfouls.choices_shared import legacy_strengths, unaugmented
from mvfouls.config_both import BothConfig, Either
from mvfouls.config_shared import Ordinal, repeated, task_name
from mvfouls.labels import ORDERED
from mvfouls.parts_shared import frames_of, size_of
from mvfouls.projection import missing_heads
from mvfouls.settings import LossKind

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
OFFICIAL_METRICS = ("leaderboard", "os_ba", "action_ba")
TASK_METRICS = ("macro_f1", "ba", "acc")

Rules = Mapping[str, bool]
"""Texts of errors, and whether they apply."""


def errors(rules: Rules) -> Iterator[Finding]:
    """Yield an error for each rule that applies."""
    yield from (Finding("error", text) for text, applies in rules.items() if applies)


def switched(config: BothConfig, always: list[Finding], rules: list[Finding]) -> list[Finding]:
    """Return all findings; with --no-enable-config-validation `rules` are warnings only."""
    switch = config.validation
    both = "--strict-config-validation with --no-enable-config-validation: take one of them"
    always += errors({both: switch.strict_config_validation and not switch.enable_config_validation})
    if switch.enable_config_validation:
        return [*always, *rules]
    return [*always, *(Finding("warning", finding.text) for finding in rules)]


def name_rules(named: Mapping[str, list[str]], tasks: Collection[str]) -> Rules:
    """Return the rules about tasks that flags name: each is one of this run, and named once."""
    unknown = {
        f"{flag}: no task {task_name(word)}; tasks are {', '.join(tasks)}": task_name(word) not in tasks
        for flag, words in named.items()
        for word in words
    }
    return {**unknown, **twice_rules(named)}


def twice_rules(named: Mapping[str, list[str]]) -> Rules:
    """Return the rules about tasks that a flag names twice."""
    return {
        f"{flag}: the task {task} is given twice": True
        for flag, words in named.items()
        for task in repeated(words)
    }


def label_rules(config: BothConfig, kinds: Mapping[str, LossKind]) -> Rules:
    """Return the rules about soft labels and ordinal heads; `kinds` are the losses of the tasks."""
    soft = list(config.labels.soft_labels)
    ordinal = [task_name(given.task) for given in config.heads.task_head if isinstance(given.head, Ordinal)]
    ordered = set(ordinal) & set(ORDERED)
    return {
        **{
            f"--soft-labels {task} with --loss-types {task} ldam: a margin needs one class per sample; take "
            "another loss, or hard labels": kinds.get(task) == "ldam"
            for task in soft
        },
        **{
            f"--task-head {task} ordinal: its classes have no order; it is for {', '.join(ORDERED)}": True
            for task in ordinal
            if task not in ORDERED
        },
        **{
            f"--task-head {task} ordinal with --loss-types {task} {kinds[task]}: the head answers with the "
            "logarithms of probabilities; take ce, focal or balanced_softmax": kinds[task] in ("ldam", "bce")
            for task in ordered & kinds.keys()
        },
        "--task-head severity ordinal with --keep-junk-classes: an empty label has no place in the order": (
            bool(ordered) and config.labels.keep_junk_classes
        ),
    }


def device_rule(device: str) -> Rules:
    """Return the rule about the device's name."""
    text = f"--device {device}: auto, cpu, cuda or cuda:N is expected"
    return {text: DEVICE.fullmatch(device) is None}


def metric_rules(flag: str, metric: str, tasks: Collection[str], *, typed: bool, mending: str) -> Rules:
    """Return the rules about the metric that chooses the best model; `mending` ends the second error."""
    known = [*OFFICIAL_METRICS, *(f"{task}_{kind}" for task in tasks for kind in TASK_METRICS)]
    known += ["mean_ba", "val_loss"]
    lacking = missing_heads(tasks)
    return {
        f"{flag} {metric}: one of {', '.join(known)} is expected": metric not in known,
        f"{flag} {metric} needs the task {lacking}; {mending}": (
            typed and metric in OFFICIAL_METRICS and lacking is not None
        ),
    }


def augmented(config: BothConfig) -> dict[str, bool]:
    """Return by flag whether it asks for augmentation."""
    values, device = config.augmentation, config.device_augmentation
    return {
        "--augmentation-strength": config.strength.augmentation_strength != "none",
        "--aggressive-augmentation": True,
        "--extreme-augmentation": config.legacy_augmentation.extreme_augmentation,
        "--temporal-jitter-strength": values.temporal_jitter_strength != 0,
        "--dropout-prob": values.dropout_prob != 0,
        "--spatial-crop-strength": values.spatial_crop_strength != 1,
        "--color-aug-strength": values.color_aug_strength != 0,
        "--noise-strength": values.noise_strength != 0,
        "--gpu-augmentation": device.gpu_augmentation,
        "--severity-aware-augmentation": device.severity_aware_augmentation,
        "--multi-scale": config.features.multi_scale,
    }


def forbidden(mode: str, on: bool, asked: Mapping[str, bool], typed: Collection[str]) -> Rules:
    """Return the rules about typed flags that ask for what a mode turns off."""
    return {
        f"{flag} with {mode}, which turns it off: take one of them": (
            on and flag[2:].replace("-", "_") in typed and wanted
        )
        for flag, wanted in asked.items()
    }


def augmentation_rules(
    parsed: Parsed[Either],
    values: AugmentValues,
    strength: Strength,
    *,
    network: str,
    family: str,
) -> Rules:
    """Return the rules about augmentation; `network` is the flag that names it."""
    config = parsed.config
    meant = dict(legacy_strengths(parsed))
    if "augmentation_strength" in parsed.typed:
        given = config.strength.augmentation_strength
        meant[f"--augmentation-strength {given}"] = given
    device = config.device_augmentation
    still = (values.colour, values.noise, values.frame_dropout, values.crop) == (0, 0, 0, 1)
    severity = device.severity_aware_augmentation and "severity_aware_augmentation" in parsed.typed
    return {
        f"{' and '.join(meant)} are different strengths: take one": len(set(meant.values())) > 1,
        f"--severity-aware-augmentation with --augmentation-strength {strength}: nothing to change": (
            severity and still and not unaugmented(config)
        ),
        "--gpu-augmentation with --disable-in-model-augmentation: the first is a part of the second": (
            device.gpu_augmentation and config.modes.disable_in_model_augmentation
        ),
        f"--multi-scale with {network}: convolutional networks only": (
            config.features.multi_scale and family != "conv"
        ),
    }


def file_rules(config: BothConfig, typed: Collection[str], flag: str, folder: Path) -> Rules:
    """Return the rules about resuming and the store of windows; `flag` names the run's `folder`."""
    saving, optimization = config.saving, config.data_optimization
    return {
        f"{flag} {folder} with --resume {saving.resume}: a run goes on in its own folder": (
            flag[2:].replace("-", "_") in typed and _elsewhere(folder, saving.resume)
        ),
        "--resume-best-acc without --resume: there is no best metric to replace": (
            saving.resume_best_acc is not None and saving.resume is None
        ),
        "--overwrite with --resume: take one of them": config.run.overwrite and saving.resume is not None,
        "--enable-data-optimization with --disable-data-optimization: take one of them": (
            "enable_data_optimization" in typed
            and optimization.enable_data_optimization
            and optimization.disable_data_optimization
        ),
    }


def _elsewhere(folder: Path, resume: str | None) -> bool:
    """Return whether `resume` names a run or a checkpoint that is not in `folder`."""
    if resume is None or resume in ("last", "best"):
        return False
    run = Path(resume).resolve()
    return folder.resolve() not in (run, run.parent.parent)


def input_findings(parsed: Parsed[Either], network: Architecture) -> Iterator[Finding]:
    """Yield errors about frames and sizes that the window or the network does not allow."""
    video, clip, typed = parsed.config.video, parsed.config.architecture, parsed.typed
    if not 0 <= video.start_frame <= video.end_frame or min(clip.frames_per_clip, clip.target_fps) < 1:
        return
    try:
        rule, _ = frames_of(parsed, network)
        network.check_input(rule.count, *size_of(parsed, network))
    except UserError as error:
        yield Finding("error", str(error))
        return
    except ValueError as error:
        yield Finding("error", f"--frames-per-clip, --target-fps: {error}")
        return
    window = f"--start-frame {video.start_frame} and --end-frame {video.end_frame}"
    indices, length = rule.indices(), video.end_frame - video.start_frame + 1
    if typed.isdisjoint({"start_frame", "end_frame"}):
        return
    if rule.fps is not None and not (video.start_frame <= indices[0] <= indices[-1] <= video.end_frame):
        yield Finding(
            "error",
            f"--target-fps {rule.fps:g} takes frames {indices[0]} to {indices[-1]}, outside {window}",
        )
    if rule.fps is None and rule.count > length:
        yield Finding(
            "error", f"--frames-per-clip {rule.count} with {window}: the window has {length} frames"
        )
