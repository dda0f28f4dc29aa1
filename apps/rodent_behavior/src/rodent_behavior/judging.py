"""What a model says about whole trials, measured: per frame, per bout, per video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.metrics import report
from common.metrics.bootstrap import Interval, bootstrap_ci
from common.metrics.calibration import Temperature, fit_temperature
from common.metrics.temporal import EditScore, f1_of_counts, segment_counts, segments
from rodent_behavior.dataset import TrialDataset
from rodent_behavior.inference import INPUTS, run_trial
from rodent_behavior.labels import LabelMap
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.objective import IGNORE
from rodent_behavior.trials import TrialIndex

SEGMENT_IOU = (0.1, 0.25, 0.3, 0.5)
CLASS_COLUMNS: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
    "F1": report.f1,
    "Recall": report.recall,
    "Precision": report.precision,
}
NOTES = {
    "macro_f1": "mean F1 of the behaviours that occur",
    "balanced_accuracy": "mean recall of the behaviours that occur",
    "accuracy": "share of frames; says little under imbalance",
    "mcc": "Matthews correlation",
    **{f"segment_f1_{level:g}": f"F1 of bouts that overlap by {level:g} or more" for level in SEGMENT_IOU},
}

Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class JudgedTrial:
    """One trial: logits [C, L], labels int64 [L] (-100: unknown).

    `actions` int64 [L] replaces the likeliest class of every frame.
    """

    index: TrialIndex
    logits: Tensor
    target: Labels
    actions: Labels | None = None

    @property
    def predicted(self) -> Labels:
        """Return the class of every frame."""
        return self.logits.argmax(dim=0).numpy() if self.actions is None else self.actions

    def probabilities(self, temperature: float) -> NDArray[np.float32]:
        """Return calibrated probabilities [L, C]."""
        return (self.logits / temperature).softmax(dim=0).T.contiguous().numpy()


def judge(network: BehaviorNetwork, trials: TrialDataset, window: int) -> list[JudgedTrial]:
    """Run the network over whole trials; it is left in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    causal = network.behavior.config.causal
    judged = []
    for place in range(len(trials)):
        sample = trials[place]
        streams = {name: sample[name].to(device) for name in INPUTS if name in sample}
        output = run_trial(network, streams, window, causal=causal)
        judged.append(
            JudgedTrial(trials.trials[place].index, output.logits.float().cpu(), sample["target"].numpy())
        )
    return judged


def calibrate(judged: Sequence[JudgedTrial], split: str) -> Temperature:
    """Return the temperature that makes the probabilities of these trials honest."""
    logits = torch.cat([trial.logits for trial in judged], dim=1)
    target = torch.from_numpy(np.concatenate([trial.target for trial in judged]))
    return fit_temperature(logits[None], target[None], split=split, ignore_index=IGNORE)


def group_matrices(judged: Sequence[JudgedTrial], num_classes: int) -> NDArray[np.int64]:
    """Return a confusion matrix per group of the split [G, C, C], rows true."""
    groups = sorted({trial.index.group for trial in judged})
    matrices = np.zeros((len(groups), num_classes, num_classes), dtype=np.int64)
    for trial in judged:
        known = trial.target != IGNORE
        pairs = trial.target[known] * num_classes + trial.predicted[known]
        counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
        matrices[groups.index(trial.index.group)] += counts
    return matrices


def group_segments(judged: Sequence[JudgedTrial], labels: LabelMap) -> NDArray[np.int64]:
    """Return hits, false and missed bouts per group, overlap and class: [G, thresholds, C, 3]."""
    groups = sorted({trial.index.group for trial in judged})
    size = len(labels.names)
    counts = np.zeros((len(groups), len(SEGMENT_IOU), size, 3), dtype=np.int64)
    for trial in judged:
        known = trial.target != IGNORE
        found, true = (
            segments(values, background=(labels.background,), valid=known)
            for values in (trial.predicted, trial.target)
        )
        counts[groups.index(trial.index.group)] += segment_counts(
            found, true, num_classes=size, thresholds=SEGMENT_IOU
        )
    return counts


def summary_rows(
    judged: Sequence[JudgedTrial], labels: LabelMap, *, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Return {name, value, low, high, note} of each metric, 95 % interval over the groups of the split."""
    matrices = group_matrices(judged, len(labels.names))
    per_frame: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
        "macro_f1": lambda m: report.macro(m, "f1", "present"),
        "balanced_accuracy": report.balanced_accuracy,
        "accuracy": report.accuracy,
        "mcc": report.mcc,
    }
    rows: list[dict[str, Any]] = [
        {"name": name, **_plain(_ci(matrices, fn, resamples))} for name, fn in per_frame.items()
    ]
    counts = group_segments(judged, labels)
    for place, level in enumerate(SEGMENT_IOU):
        interval = _segment_interval(counts[:, place].sum(axis=1), resamples)
        rows.append({"name": f"segment_f1_{level:g}", **_plain(interval)})
    for row in rows:
        row["note"] = NOTES[row["name"]]
    edit = EditScore(len(labels.names), background=(labels.background,), ignore_index=IGNORE)
    for trial in judged:
        edit.update(trial.predicted, trial.target)
    nothing = {"low": float("nan"), "high": float("nan")}
    return [*rows, {"name": "edit", "value": edit.compute(), **nothing, "note": "order of bouts, 0 to 100"}]


def class_rows(
    judged: Sequence[JudgedTrial], labels: LabelMap, *, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Return one row per behaviour: id, name, support and F1, Recall, Precision with intervals."""
    matrices = group_matrices(judged, len(labels.names))
    support = report.support(matrices.sum(axis=0))
    values = {title: _ci(matrices, fn, resamples) for title, fn in CLASS_COLUMNS.items()}
    return [
        {
            "id": index,
            "name": name,
            "support": int(support[index]),
            **{title: _plain(interval, index) for title, interval in values.items()},
        }
        for index, name in enumerate(labels.names)
    ]


def _ci(
    matrices: NDArray[np.int64], fn: Callable[[NDArray[np.int64]], NDArray[np.float64]], resamples: int
) -> Interval:
    if resamples and len(matrices) > 1:
        return bootstrap_ci(matrices, fn, n=resamples)
    value = np.asarray(fn(matrices.sum(axis=0)), dtype=np.float64)
    unknown = np.full_like(value, np.nan)
    return Interval(value, unknown, unknown)


def _segment_interval(counts: NDArray[np.int64], resamples: int) -> Interval:
    """Return segment F1 of counts [G, 3] and its interval when whole groups are drawn anew."""
    value = f1_of_counts(counts.sum(axis=0))
    if not resamples or len(counts) < 2:
        unknown = np.full_like(value, np.nan)
        return Interval(value, unknown, unknown)
    rng = np.random.Generator(np.random.Philox(key=0))
    drawn = rng.integers(len(counts), size=(resamples, len(counts)))
    low, high = np.nanpercentile(f1_of_counts(counts[drawn].sum(axis=1)), [2.5, 97.5])
    return Interval(value, np.asarray(low), np.asarray(high))


def _plain(interval: Interval, place: int | tuple[()] = ()) -> dict[str, float]:
    return {name: float(np.asarray(part)[place]) for name, part in interval._asdict().items()}
