"""How good a predicted gaze density is, per horizon and over all: every number of a result file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.metrics.ranking import Threshold
from common.metrics.report import divide
from common.metrics.sparse_map import Calibration, TargetMaps, cell_index, fit_calibration
from common.metrics.sparse_map_frames import FrameScores, frame_scores
from common.metrics.sparse_map_pooled import (
    MASS_EDGES,
    CellRanking,
    MassReliability,
    Movement,
    Pooled,
    f1_at,
    top_calibration_error,
)
from eye_fixation.geometry import Geometry

FloatArray = NDArray[np.float64]

HORIZONS = (1, 3, 6, 10)
TOP = (1, 5, 10, 50)
RADII = (1, 2, 3)
LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
STEP_QUANTILES = tuple(round(0.01 * step, 2) for step in range(101))
PER_FRAME = ("bits", "nss", "auc", "energy", *(f"hit_{radius}" for radius in RADII))
WITH_BANDS = ("bits",)  # metrics whose intervals are wanted per horizon too
POINTS = ("argmax", "mean")


class SequenceSums(NamedTuple):
    """Sums and counts of one metric per sequence, float64 [N, C]; column 0 over all horizons.

    The other columns, where there are any, are horizons 1 to T_out. The metric is sum / count over sequences.
    """

    sums: FloatArray
    counts: FloatArray


@dataclass(frozen=True, eq=False)
class Scores:
    """All metrics of one model on one split; NaN where undefined.

    `values` by name, over all valid target frames; `per_horizon` the same names, T_out numbers each;
    `sequences` what resampling needs, for metrics that are a mean or a ratio of sums; `curves` the points of
    plots.
    """

    values: dict[str, float] = field(default_factory=dict)
    per_horizon: dict[str, list[float]] = field(default_factory=dict)
    sequences: dict[str, SequenceSums] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, without what only resampling needs; NaN stays NaN."""
        return {**self.values, "per_horizon": self.per_horizon, "curves": self.curves}

    def to_state(self) -> dict[str, Any]:
        """Return all of it as plain types and tensors that load with weights_only=True."""
        sums = {name: [torch.from_numpy(part) for part in parts] for name, parts in self.sequences.items()}
        plain = {"values": self.values, "per_horizon": self.per_horizon, "curves": self.curves}
        return {**plain, "sequences": sums}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Scores:
        """Restore what `to_state` returned."""
        sums = {name: SequenceSums(*(p.numpy() for p in parts)) for name, parts in state["sequences"].items()}
        return cls(state["values"], state["per_horizon"], sums, state["curves"])

    def add_mean(self, name: str, values: Tensor, weights: Tensor | None = None) -> None:
        """Add the mean of [N, T] values, NaN left out; with `weights` sum(values) / sum(weights)."""
        sums, counts = _sums(values, weights)
        self._add_columns(name, sums, counts)
        self.per_horizon[name] = divide(sums.sum(0), counts.sum(0)).tolist()

    def add_cumulative(self, name: str, values: Tensor) -> None:
        """Add the means of [N, T] values over horizons 1..k, for the k of HORIZONS there are."""
        for k in (k for k in HORIZONS if k <= values.shape[1]):
            sums, counts = _sums(values[:, :k], None)
            self._add_columns(f"{name}_at_{k}", sums, counts)

    def add_quantiles(self, name: str, values: Tensor) -> None:
        """Add median and 90th percentile of [N, T] values, NaN left out."""
        array = values.cpu().numpy()
        for label, q in (("median", 0.5), ("p90", 0.9)):
            pooled = Pooled(_quantile(array, q), np.array([_quantile(column, q) for column in array.T]))
            self.add_pooled(f"{name}_{label}", pooled)

    def add_pooled(self, name: str, score: Pooled) -> None:
        """Add a score that is no mean over frames."""
        self.values[name] = score.value
        self.per_horizon[name] = score.per_step.tolist()

    def _add_columns(self, name: str, sums: FloatArray, counts: FloatArray) -> None:
        self.values[name] = float(divide(sums.sum(), counts.sum()))
        columns = [(part.sum(1, keepdims=True), part) for part in (sums, counts)]
        wide = name in WITH_BANDS
        self.sequences[name] = SequenceSums(
            *(np.concatenate(parts, axis=1) if wide else parts[0] for parts in columns)
        )


@dataclass(frozen=True, eq=False)
class References:
    """What a model is compared with, all from the training split.

    `histogram` [T_out, S, S] counts target cells per horizon, for `sauc`; `bits` holds log2 densities of the
    lit cell, [N, T_out], of other predictions on the same frames, by the name their gain `ig_<name>` gets.
    """

    histogram: Tensor | None = None
    bits: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """What is chosen on the validation split and frozen: calibration, and the density with the best F1.

    `raw_threshold` is that of the densities before calibration.
    """

    calibration: Calibration
    threshold: Threshold
    raw_threshold: Threshold


def fit_on_validation(density: Tensor, coordinates: Tensor, mask: Tensor) -> Fitted:
    """Choose calibration by bits and thresholds by F1 on the validation split; arguments as in `judge`."""
    maps = TargetMaps.of(density, coordinates, mask)
    calibration = fit_calibration(maps.density, maps.cell, maps.valid)
    calibrated = TargetMaps.of(calibration.apply(maps.density), coordinates, mask)
    thresholds = [CellRanking.of(part).best_f1(split="val") for part in (calibrated, maps)]
    return Fitted(calibration, *thresholds)


def judge(
    density: Tensor,
    coordinates: Tensor,
    mask: Tensor,
    last_input: Tensor,
    *,
    references: References | None = None,
    threshold: Threshold | None = None,
    geometry: Geometry | None = None,
    seed: int = 0,
) -> Scores:
    """Return every metric of densities [N, T_out, S, S] against gaze [N, T_out, 2] in cells, x first.

    `mask` bool [N, T_out] says which target frames count, `last_input` [N, 2] is the last input gaze, NaN
    where it was lost. Without references, threshold or geometry the metrics that need them are NaN. `seed`
    draws among ties and steps. ValueError for shapes that do not fit.
    """
    references = References() if references is None else references
    maps = TargetMaps.of(density, coordinates, mask)
    frames = frame_scores(maps, weights=references.histogram, ks=TOP, radii=RADII, seed=seed)
    scores = Scores()
    _add_frames(scores, frames, references, maps)
    for name, points in zip(POINTS, (frames.argmax_point, frames.mean_point)):
        _add_distances(scores, f"mde_{name}", points, maps, geometry)
    _add_cells(scores, frames, maps, threshold)
    _add_movement(scores, Movement.of(maps, frames.mean_point, last_input, seed=seed + 1))
    return scores


def judge_points(
    points: Tensor, coordinates: Tensor, mask: Tensor, *, img_size: int, geometry: Geometry | None = None
) -> Scores:
    """Return the metrics that a point [N, T_out, 2] without a density has: distances, hits and top1.

    The point stands for both the likeliest cell and the mean. Other arguments as in `judge`.
    """
    grid = (img_size, img_size)
    cells, target = cell_index(points, grid), cell_index(coordinates, grid)
    error = _error(points, coordinates, mask)
    scores = Scores()
    scores.add_mean("top1", torch.where(mask, (cells == target).double(), float("nan")))
    for radius in RADII:
        scores.add_mean(f"hit_{radius}", torch.where(mask, (error <= radius).double(), float("nan")))
    for name in POINTS:
        _add_errors(scores, f"mde_{name}", error, _error_deg(points, coordinates, mask, img_size, geometry))
    return scores


def _add_frames(scores: Scores, frames: FrameScores, references: References, maps: TargetMaps) -> None:
    missing = torch.full_like(frames.values["bits"], float("nan"))
    for name in PER_FRAME:
        scores.add_mean(name, frames.values[name])
    scores.add_mean("sauc", frames.values.get("sauc", missing))
    scores.add_mean("top1", frames.values["recall_at_1"])
    for k in TOP:
        scores.add_mean(f"recall_at_{k}", frames.values[f"recall_at_{k}"])
    for level in (50, 90):
        scores.add_mean(f"coverage_{level}", frames.values[f"coverage_{level}"])
    uniform = -math.log2(maps.grid[0] * maps.grid[1])
    scores.add_mean("ig_uniform", frames.values["bits"] - uniform)
    for name in dict.fromkeys(("center", "kernel", *references.bits)):
        reference = references.bits.get(name, missing).to(missing)
        if reference.shape != missing.shape:
            raise ValueError(
                f"reference bits {name!r} are {list(reference.shape)}: {list(missing.shape)} is expected"
            )
        scores.add_mean(f"ig_{name}", frames.values["bits"] - reference)
    mass = frames.values["region_mass"][maps.valid]
    scores.curves["coverage_level"] = list(LEVELS)
    scores.curves["coverage_share"] = [float((mass <= level).double().mean()) for level in LEVELS]


def _add_distances(
    scores: Scores, name: str, points: Tensor, maps: TargetMaps, geometry: Geometry | None
) -> None:
    target, valid = maps.target.double(), maps.valid
    error = _error(points, target, valid)
    _add_errors(scores, name, error, _error_deg(points, target, valid, maps.grid[1], geometry))


def _add_errors(scores: Scores, name: str, cells: Tensor, degrees: Tensor) -> None:
    for unit, error in (("", cells), ("_deg", degrees)):
        scores.add_mean(name + unit, error)
        scores.add_cumulative(name + unit, error)
        scores.add_quantiles(name + unit, error)


def _error(points: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    distance = torch.linalg.vector_norm(points.double() - target.to(points.device).double(), dim=-1)
    return torch.where(valid.to(points.device), distance, float("nan"))


def _error_deg(
    points: Tensor, target: Tensor, valid: Tensor, img_size: int, geometry: Geometry | None
) -> Tensor:
    if geometry is None or not geometry.has_degrees:
        return points.new_full(points.shape[:-1], float("nan"), dtype=torch.float64)
    return _error(
        geometry.degrees(points.double(), img_size), geometry.degrees(target.double(), img_size), valid
    )


def _add_cells(scores: Scores, frames: FrameScores, maps: TargetMaps, threshold: Threshold | None) -> None:
    scores.add_pooled("ap", CellRanking.of(maps).average_precision())
    scores.add_pooled("ece_top1", top_calibration_error(frames))
    reliability = MassReliability.of(maps)
    scores.add_pooled("ece_mass", reliability.error())
    value = float("nan") if threshold is None else threshold.value
    undefined = Pooled(float("nan"), np.full(maps.steps, np.nan))
    scores.add_pooled("best_f1", undefined if math.isnan(value) else f1_at(maps, value))
    scores.values["best_f1_threshold"] = value
    scores.curves["mass_edges"] = list(MASS_EDGES)
    scores.curves["mass_predicted"] = reliability.mass.sum(0).tolist()
    scores.curves["mass_hits"] = reliability.hits.sum(0).tolist()


def _add_movement(scores: Scores, movement: Movement) -> None:
    scores.add_pooled("move_auc", movement.auc())
    gone = [torch.where(movement.moved, part, float("nan")) for part in (movement.mean_step, movement.step)]
    scores.add_mean("step_ratio", *gone)
    scores.add_pooled("step_w1", movement.wasserstein())
    for name, steps in (("step_true", movement.cell_step), ("step_drawn", movement.drawn_step)):
        known = steps[~steps.isnan()].cpu().numpy()
        scores.curves[f"{name}_quantiles"] = np.quantile(known, STEP_QUANTILES).tolist() if len(known) else []


def _sums(values: Tensor, weights: Tensor | None) -> tuple[FloatArray, FloatArray]:
    known = ~values.isnan()
    counts = known.double() if weights is None else torch.where(known, weights, 0.0)
    return torch.where(known, values, 0.0).double().cpu().numpy(), counts.double().cpu().numpy()


def _quantile(values: FloatArray, q: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, q)) if len(known) else float("nan")


@dataclass(frozen=True)
class CompatSums:
    """Pooled counts of sigmoid(z) > .5 and the squared error of z; sums of batches add up.

    The documented numbers of `evaluate_model`. They measure calibration as much as skill: an uninformed MSE
    model gets recall 1.
    """

    correct: int = 0
    predicted: int = 0
    targets: int = 0
    squared_error: float = 0.0
    pixels: int = 0

    @classmethod
    def of(cls, outputs: Tensor, targets: Tensor, mask: Tensor | None = None) -> CompatSums:
        """Count raw outputs against targets, both (B, T, C, H, W) or (B, C, H, W).

        `mask` bool (B, T) or (B,) says which frames count. ValueError for shapes that do not fit.
        """
        lead = targets.shape[:-3]
        mask = torch.ones(lead, dtype=torch.bool, device=targets.device) if mask is None else mask
        if outputs.shape != targets.shape or mask.shape != lead:
            raise ValueError(
                f"outputs {list(outputs.shape)}, targets {list(targets.shape)} and mask {list(mask.shape)} "
                "do not fit: (B, T, C, H, W) or (B, C, H, W) twice, and its leading axes"
            )
        z, y = outputs.detach()[mask.bool()].float(), targets[mask.bool()]
        white, predicted = y > 0.5, torch.sigmoid(z) > 0.5
        return cls(
            correct=int((white & predicted).sum()),
            predicted=int(predicted.sum()),
            targets=int(white.sum()),
            squared_error=float((z.double() - y.double()).square().sum()),
            pixels=z.numel(),
        )

    def __add__(self, other: CompatSums) -> CompatSums:
        return CompatSums(
            self.correct + other.correct,
            self.predicted + other.predicted,
            self.targets + other.targets,
            self.squared_error + other.squared_error,
            self.pixels + other.pixels,
        )

    def metrics(self) -> dict[str, float]:
        """Return the documented names; 0 / 0 is 0."""
        return {
            "test_loss": _ratio(self.squared_error, self.pixels),
            "white_pixel_recall": _ratio(self.correct, self.targets),
            "white_pixel_precision": _ratio(self.correct, self.predicted),
            "f1_score": _ratio(2 * self.correct, self.targets + self.predicted),
            "total_target_pixels": self.targets,
            "total_correct_pixels": self.correct,
        }


def seed_compat(outputs: Tensor, targets: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """Return the documented metrics of raw outputs; see `CompatSums`, whose sums several batches need."""
    return CompatSums.of(outputs, targets, mask).metrics()


def converged(val_losses: Sequence[float]) -> bool:
    """Whether the best of the last 5 validation losses improves the best before them by less than 1 %.

    False if a loss is not finite, and with 5 epochs or fewer: nothing came before them.
    """
    if len(val_losses) <= 5 or not all(math.isfinite(loss) for loss in val_losses):
        return False
    before, recent = min(val_losses[:-5]), min(val_losses[-5:])
    return before - recent < 0.01 * abs(before)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
