"""Logit offsets and thresholds of classes, fitted on validation logits and applied to predictions."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import UserError, writing
from common.engine.manifest import replace_text
from common.metrics.report import divide
from mvfouls.labels import IGNORE, OFFICIAL_ACTIONS, OFFICIAL_OS
from mvfouls.projection import Projected, normalised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPLIT = "valid"
SCHEMA = 1
OFFICIAL = {"official_action": OFFICIAL_ACTIONS, "official_os": OFFICIAL_OS}
"""Parts of the official prediction, which are calibrated after the projection."""
FOLDS = 5
SWEEPS = 20
MAX_OFFSET = 3.0
"""Nats; a rare class has few actions to say how much it should be favoured."""
_GAIN = 1e-12
_SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class PartCalibration:
    """What was fitted for one task or official part.

    `offsets` are added to log-probabilities. `thresholds` are probabilities, with the offsets applied, from
    which a class by itself is called present; None for a class that is absent or everywhere. `before` and
    `after` are balanced accuracies on the fitted actions, `held_out` that of offsets fitted without the
    actions they are applied to; None where nothing could be held out.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    offsets: tuple[float, ...]
    thresholds: tuple[float | None, ...]
    before: float
    after: float
    held_out: float | None

    def probabilities(self, values: NDArray[Any]) -> Floats:
        """Return probabilities [B, K] with the offsets applied."""
        return apply_offsets(values, np.array(self.offsets))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The parts that were fitted: each task under its name, and the official parts of `OFFICIAL`."""

    parts: Mapping[str, PartCalibration]
    actions: int
    split: str = SPLIT

    def adjust(self, projected: Projected) -> Projected:
        """Return official predictions with the offsets of the official parts; the likeliest class wins."""
        values = {"official_action": projected.actions, "official_os": projected.os}
        new = {
            name: self.parts[name].probabilities(p) if name in self.parts else p for name, p in values.items()
        }
        actions, os = new["official_action"], new["official_os"]
        return replace(
            projected,
            actions=actions,
            os=os,
            action_id=actions.argmax(axis=1) if "official_action" in self.parts else projected.action_id,
            os_id=os.argmax(axis=1) if "official_os" in self.parts else projected.os_id,
        )

    def adjust_tasks(self, probabilities: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return each task's probabilities [B, K] with its offsets, for the classes a task names by itself.

        The official prediction is projected from probabilities without them: it has offsets of its own.
        """
        return {
            task: self.parts[task].probabilities(values) if task in self.parts else values
            for task, values in probabilities.items()
        }

    def check_classes(self, tasks: Mapping[str, tuple[str, ...]], path: Path) -> None:
        """Raise UserError when a task was fitted with other classes than `tasks` says."""
        for task, classes in tasks.items():
            if task in self.parts and self.parts[task].classes != tuple(classes):
                raise UserError(
                    f"{path}: {task} was fitted with the classes {', '.join(self.parts[task].classes)}; the "
                    f"model has {', '.join(classes)}"
                )


def apply_offsets(probabilities: NDArray[Any], offsets: NDArray[Any]) -> Floats:
    """Return probabilities [B, K] proportional to p * exp(offset); ValueError for offsets of another size."""
    values = np.asarray(probabilities, dtype=np.float64)
    if offsets.shape != values.shape[1:]:
        raise ValueError(f"offsets: {offsets.shape} do not fit probabilities {values.shape}")
    return normalised(values * np.exp(offsets))


def fit_offsets(probabilities: NDArray[Any], truth: Ints, *, limit: float = MAX_OFFSET) -> Floats:
    """Return offsets [K] in [-limit, limit] that raise balanced accuracy of argmax(log p + offset).

    `probabilities` [N, K] and true classes int64 [N] in 0..K-1. One class after the other gets the offset
    that is exactly best while the others stay, nearest to its present one where several are, until nothing is
    gained; a class that is never true keeps 0.
    """
    scores = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))
    classes = scores.shape[1]
    worth = divide(np.ones(classes), np.bincount(truth, minlength=classes))
    present = np.flatnonzero(~np.isnan(worth))
    offsets = np.zeros(classes)
    best = balanced_accuracy(scores, truth)
    for _ in range(SWEEPS):
        start = best
        for place in present:
            room = (-limit - offsets[place], limit - offsets[place])
            candidate = offsets.copy()
            candidate[place] += _best_change(scores + offsets, truth, int(place), worth, room)
            value = balanced_accuracy(scores + candidate, truth)
            if value > best + _GAIN:
                offsets, best = candidate, value
        if best <= start + _GAIN:
            break
    return offsets


def balanced_accuracy(scores: Floats, truth: Ints) -> float:
    """Return the mean recall of argmax(scores) over the classes that occur."""
    classes = scores.shape[1]
    count = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[scores.argmax(axis=1) == truth], minlength=classes)
    recall = divide(hits, count)[count > 0]
    return float(recall.mean()) if len(recall) else float("nan")


def _best_change(scores: Floats, truth: Ints, place: int, worth: Floats, room: tuple[float, float]) -> float:
    """Return the change within `room` of one class's score that gains most recall, summed over classes.

    The class wins sample i from a change of margin_i on, so the gain is a step function whose steps are the
    sorted margins.
    """
    others = np.delete(scores, place, axis=1)
    rival = np.delete(np.arange(scores.shape[1]), place)[others.argmax(axis=1)]
    margin = others.max(axis=1) - scores[:, place]
    step = np.where(truth == place, worth[place], 0.0) - np.where(truth == rival, worth[truth], 0.0)
    order = np.argsort(margin, kind="stable")
    gain = np.concatenate([[0.0], np.cumsum(step[order])])
    edges = np.clip(np.concatenate([[-np.inf], margin[order], [np.inf]]), *room)
    gain[np.diff(edges) <= _GAIN] = -np.inf
    middle = (edges[:-1] + edges[1:]) / 2
    best = np.flatnonzero(gain >= gain.max() - _GAIN)
    return float(middle[best[np.argmin(np.abs(middle[best]))]])


def fit_threshold(probability: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Return the threshold with the best mean of both recalls, half way between two probabilities.

    None when one of the two kinds is absent; the highest of equally good ones. Source: Youden 1950.
    """
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-probability, kind="stable")
    p, true = probability[order], positive[order]
    gain = np.cumsum(np.where(true, 1.0 / true.sum(), -1.0 / (~true).sum()))
    gain[:-1][p[:-1] == p[1:]] = -np.inf
    last = int(gain.argmax())
    below = p[last + 1] if last + 1 < len(p) else 0.0
    return float((p[last] + below) / 2)


def fit_part(
    probabilities: NDArray[Any], labels: Ints, classes: tuple[str, ...], *, limit: float = MAX_OFFSET
) -> PartCalibration | None:
    """Fit one part on the actions that have a label; None when fewer than two classes occur."""
    kept = labels != IGNORE
    values, truth = np.asarray(probabilities, dtype=np.float64)[kept], labels[kept]
    counts = np.bincount(truth, minlength=len(classes))
    if (counts > 0).sum() < 2:
        return None
    offsets = fit_offsets(values, truth, limit=limit)
    adjusted = apply_offsets(values, offsets)
    thresholds = (fit_threshold(adjusted[:, place], truth == place) for place in range(len(classes)))
    return PartCalibration(
        classes=classes,
        counts=tuple(counts.tolist()),
        offsets=tuple(offsets.tolist()),
        thresholds=tuple(thresholds),
        before=balanced_accuracy(values, truth),
        after=balanced_accuracy(adjusted, truth),
        held_out=_held_out(values, truth, limit),
    )


def _held_out(values: Floats, truth: Ints, limit: float) -> float | None:
    """Return the balanced accuracy when each fold gets the offsets of the others; None without folds."""
    if len(truth) < FOLDS:
        return None
    fold = np.empty(len(truth), dtype=np.int64)
    for label in np.unique(truth):
        members = np.flatnonzero(truth == label)
        fold[members] = np.arange(len(members)) % FOLDS
    adjusted = values.copy()
    for number in np.unique(fold):
        inside = fold == number
        if not inside.all():
            offsets = fit_offsets(values[~inside], truth[~inside], limit=limit)
            adjusted[inside] = apply_offsets(values[inside], offsets)
    return balanced_accuracy(adjusted, truth)


def fit_calibration(path: Path, *, limit: float = MAX_OFFSET) -> Calibration:
    """Fit every task and official part of a `val_logits.npz`.

    UserError when the file cannot be read, is no such file, or comes from another split than valid: offsets
    fitted on the data that a result is reported on make the result worthless.
    """
    arrays = _read_arrays(path)
    split = str(arrays["split"])
    if split != SPLIT:
        raise UserError(f"{path}: logits of the split {split}: offsets are fitted on {SPLIT} only")
    parts = {}
    for name in (key.removeprefix("classes/") for key in arrays if key.startswith("classes/")):
        classes = tuple(map(str, arrays[f"classes/{name}"]))
        parts[name] = fit_part(
            arrays[f"probabilities/{name}"], arrays[f"labels/{name}"], classes, limit=limit
        )
    for name, classes in OFFICIAL.items():
        kind = name.removeprefix("official_")
        if f"official/{kind}" in arrays:
            labels = arrays[f"official/{kind}_label"]
            parts[name] = fit_part(arrays[f"official/{kind}"], labels, classes, limit=limit)
    found = {name: part for name, part in parts.items() if part is not None}
    if not found:
        raise UserError(f"{path}: no task has actions of two classes: nothing can be fitted")
    return Calibration(parts=found, actions=len(arrays["action_ids"]))


def calibration_lines(calibration: Calibration) -> list[str]:
    """Return the fitted offsets and what they gain as text."""
    lines = [f"offsets fitted on {calibration.actions} actions of {calibration.split}"]
    for name, part in calibration.parts.items():
        held = "-" if part.held_out is None else f"{100 * part.held_out:.1f}"
        values = " ".join(f"{label} {offset:+.2f}" for label, offset in zip(part.classes, part.offsets))
        useless = part.held_out is not None and part.held_out <= part.before
        note = "   no gain on held-out actions" if useless else ""
        lines.append(f"  {name} BA {100 * part.before:.1f} -> {100 * part.after:.1f}, held out {held}{note}")
        lines.append(f"    {values}")
    return lines


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the JSON file that `read_calibration` reads; UserError when the disk refuses."""
    content = {"schema": SCHEMA, **asdict(calibration)}
    with writing(f"{path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Return what `write_calibration` wrote; UserError for a file that it did not write, or another split."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: _part_from(values) for name, values in content["parts"].items()}
        schema, split, actions = content["schema"], content["split"], int(content["actions"])
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no calibration file of `analyze`: {error}") from error
    if schema != SCHEMA or split != SPLIT:
        raise UserError(
            f"{path}: schema {schema} fitted on {split}; schema {SCHEMA} fitted on {SPLIT} is read"
        )
    return Calibration(parts=parts, actions=actions)


def _part_from(values: Mapping[str, Any]) -> PartCalibration:
    tuples: dict[str, Any] = {
        name: tuple(values[name]) for name in ("classes", "counts", "offsets", "thresholds")
    }
    lengths = {len(items) for items in tuples.values()}
    if len(lengths) != 1 or not np.isfinite(np.array(tuples["offsets"], dtype=np.float64)).all():
        raise ValueError("one finite offset per class is expected")
    return PartCalibration(**tuples, **{name: values[name] for name in ("before", "after", "held_out")})


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = dict(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not written by --save-val-logits: {error}") from error
    tasks = [name.removeprefix("classes/") for name in arrays if name.startswith("classes/")]
    wanted = [
        "split",
        "action_ids",
        *(f"{kind}/{task}" for kind in ("probabilities", "labels") for task in tasks),
    ]
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise UserError(f"{path}: not written by --save-val-logits: no {', '.join(missing)}")
    return arrays
