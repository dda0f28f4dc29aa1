"""Plots of behaviour over time: truth against prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rodent_behavior.judging import JudgedTrial
from rodent_behavior.labels import LabelMap
from rodent_behavior.objective import IGNORE

PALETTE = ("#d9dee4", "#c62f3b", "#e59b2e", "#7a4fb5", "#2f7fc6", "#3d9a5f", "#8c6d4f", "#4db6ac")


def colors_of(labels: LabelMap) -> list[str]:
    """Return the plot colour of each behaviour."""
    return [PALETTE[index % len(PALETTE)] for index in range(len(labels.names))]


def plot_ethogram(path: Path, trial: JudgedTrial, labels: LabelMap, *, temperature: float) -> None:
    """Write a PNG of one trial: the true strip, the predicted strip, the probabilities below."""
    import matplotlib  # takes a second, and is needed once per run

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    seconds = np.arange(len(trial.target) + 1) / trial.index.fps
    figure, axes = plt.subplots(
        3, 1, figsize=(9, 2.7), sharex=True, height_ratios=(1, 1, 2.2), layout="constrained"
    )
    for axis, name, values in zip(axes, ("truth", "model"), (trial.target, trial.predicted)):
        _strip(axis, seconds, values, labels)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    probabilities = trial.probabilities(temperature)
    for index, color in enumerate(colors_of(labels)):
        if index != labels.background:
            axes[2].plot(seconds[:-1], probabilities[:, index], color=color, linewidth=1.2)
    axes[2].set(ylim=(0, 1), xlim=(0, seconds[-1]), xlabel="seconds", ylabel="probability")
    axes[2].spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=color) for color in colors_of(labels)]
    figure.legend(
        handles, labels.names, loc="outside upper center", ncols=len(labels.names), frameon=False, fontsize=8
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _strip(axis: object, seconds: NDArray[np.float64], values: NDArray[np.int64], labels: LabelMap) -> None:
    for index, color in enumerate(colors_of(labels)):
        runs = np.flatnonzero(np.diff(np.concatenate([[0], (values == index).astype(np.int8), [0]])))
        spans = [
            (seconds[start], seconds[stop] - seconds[start]) for start, stop in zip(runs[::2], runs[1::2])
        ]
        axis.broken_barh(spans, (0, 1), facecolors=color)  # type: ignore[attr-defined]
    unknown = values == IGNORE
    if unknown.any():
        axis.plot(seconds[:-1][unknown], np.full(int(unknown.sum()), 0.5), ",", color="black")  # type: ignore[attr-defined]
    axis.set(ylim=(0, 1), yticks=[])  # type: ignore[attr-defined]
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)  # type: ignore[attr-defined]


def most_telling(judged: Sequence[JudgedTrial], labels: LabelMap, count: int) -> list[JudgedTrial]:
    """Return the trials with most behaviours in truth, then most frames that are not background."""

    def richness(trial: JudgedTrial) -> tuple[int, int]:
        shown = trial.target[(trial.target != IGNORE) & (trial.target != labels.background)]
        return len(np.unique(shown)), len(shown)

    return sorted(judged, key=richness, reverse=True)[:count]
