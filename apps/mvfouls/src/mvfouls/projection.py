"""Predictions in the official vocabulary: 8 actions, and 4 classes of offence with severity."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics.report import divide
from mvfouls.labels import OFFENCES, OFFICIAL_ACTIONS, SEVERITIES, TaskLabels
from mvfouls.settings import ProjectionSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_OFFENCE = 0
CASCADE = 0.5
"""Probability of no offence from which the cascade decides for it."""


@dataclass(frozen=True, eq=False)
class Projected:
    """Official predictions of B actions.

    `actions` [B, 8] and `os` [B, 4] are probabilities, `action_id` and `os_id` int64 [B] the decisions, which
    under `cascade` need not be the likeliest class.
    """

    actions: Floats
    os: Floats
    action_id: Ints
    os_id: Ints


def missing_heads(tasks: Collection[str]) -> str | None:
    """Return what a model with these tasks lacks for an official prediction, or None."""
    lacking = [] if "action_class" in tasks else ["action_class"]
    if "offence_severity" not in tasks:
        if "offence" not in tasks:
            lacking.append("offence (or offence_severity)")
        if "severity" not in tasks:
            lacking.append("severity (or offence_severity)")
    return ", ".join(lacking) or None


def project_probabilities(
    probabilities: Mapping[str, NDArray[Any]],
    tasks: Mapping[str, TaskLabels],
    settings: ProjectionSettings,
) -> Projected:
    """Return official predictions from the probabilities [B, K] of each task.

    Classes that the official vocabulary lacks are left out and the rest divided by its sum; when nothing is
    left, every class is equally likely. Equal probabilities decide for the lowest id. ValueError when a task
    is missing, has another number of classes than its probabilities, or holds a value that is not finite.
    """
    lacking = missing_heads(probabilities)
    if lacking is not None:
        raise ValueError(f"probabilities: no official prediction without the task {lacking}")
    actions = _official_actions(probabilities, tasks)
    if "offence_severity" in probabilities:
        os = normalised(_checked(probabilities, tasks, "offence_severity"))
        none, severity = os[:, NO_OFFENCE], normalised(os[:, 1:])
    else:
        none, severity = _no_offence(probabilities, tasks, settings), _cards(probabilities, tasks, settings)
        os = np.concatenate([none[:, None], (1.0 - none[:, None]) * severity], axis=1)
    return Projected(
        actions=actions,
        os=os,
        action_id=actions.argmax(axis=1),
        os_id=os.argmax(axis=1) if settings.decision == "joint" else _cascade(none, severity),
    )


def normalised(values: Floats) -> Floats:
    """Return rows [B, K] divided by their sums; a row of zeros becomes uniform."""
    shares = divide(values, values.sum(axis=1, keepdims=True))
    return np.where(np.isnan(shares), 1.0 / values.shape[1], shares)


def _official_actions(probabilities: Mapping[str, NDArray[Any]], tasks: Mapping[str, TaskLabels]) -> Floats:
    return normalised(_columns(probabilities, tasks, "action_class", OFFICIAL_ACTIONS))


def _no_offence(
    probabilities: Mapping[str, NDArray[Any]], tasks: Mapping[str, TaskLabels], settings: ProjectionSettings
) -> Floats:
    """Return the probability of no offence [B]; an undecided `Between` is dropped or halved."""
    offence = normalised(_columns(probabilities, tasks, "offence", OFFENCES))
    if settings.between == "drop":
        return normalised(offence[:, :2])[:, 1]
    return np.asarray(offence[:, 1] + offence[:, 2] / 2)


def _cards(
    probabilities: Mapping[str, NDArray[Any]], tasks: Mapping[str, TaskLabels], settings: ProjectionSettings
) -> Floats:
    """Return the probabilities of no card, yellow and red [B, 3] given an offence."""
    p = normalised(_columns(probabilities, tasks, "severity", SEVERITIES))
    if settings.borderline == "drop":
        return normalised(p[:, ::2])
    low, high = p[:, 1] / 2, p[:, 3] / 2
    return np.stack([p[:, 0] + low, low + p[:, 2] + high, high + p[:, 4]], axis=1)


def _cascade(none: Floats, severity: Floats) -> Ints:
    return np.where(none >= CASCADE, NO_OFFENCE, 1 + severity.argmax(axis=1))


def _columns(
    probabilities: Mapping[str, NDArray[Any]],
    tasks: Mapping[str, TaskLabels],
    task: str,
    names: Sequence[str],
) -> Floats:
    """Return the columns of the classes called `names`, in that order."""
    places = [tasks[task].classes.index(name) for name in names]
    return _checked(probabilities, tasks, task)[:, places]


def _checked(probabilities: Mapping[str, NDArray[Any]], tasks: Mapping[str, TaskLabels], task: str) -> Floats:
    values = np.asarray(probabilities[task], dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(tasks[task].classes):
        raise ValueError(f"{task}: [B, {len(tasks[task].classes)}] is expected, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{task}: a probability is not finite")
    return values
