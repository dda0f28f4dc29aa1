"""The official evaluator: as the rules of the labels mean it, and as the published tool computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.metrics.report import divide
from mvfouls.annotations import Action, Annotations
from mvfouls.labels import OFFICIAL_ACTIONS, OFFICIAL_OS, project_label

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mode = Literal["strict", "compat"]
Entry = Mapping[str, str]
"""A prediction: `Action class`, `Offence` and `Severity`; keys that are absent are wrong."""

ACTION, OFFENCE, SEVERITY = "Action class", "Offence", "Severity"
UNKNOWN = -1
NO_OFFENCE = 0
_SPELLINGS = ("", "Offence", "No offence", "No Offence", "Between")
"""What the published tool reads in the field Offence; it leaves out an action with any other."""


@dataclass(frozen=True, eq=False)
class PartScores:
    """One of the two official parts over N actions: true class int64 [N], predicted class (-1: none), hit."""

    names: tuple[str, ...]
    truth: Ints
    predicted: Ints
    hit: NDArray[np.bool_]

    @cached_property
    def count(self) -> Ints:
        """How often each class is true, [K]."""
        return np.bincount(self.truth, minlength=len(self.names))

    @cached_property
    def hits(self) -> Ints:
        """How often each class was found, [K]."""
        return np.bincount(self.truth[self.hit], minlength=len(self.names))

    @property
    def recall(self) -> Floats:
        """Recall of each class, [K]; NaN for an absent class."""
        return divide(self.hits, self.count)

    @property
    def accuracy(self) -> float:
        """Share of actions that were hit; NaN without actions."""
        return float(divide(self.hits.sum(), self.count.sum()))

    @property
    def present(self) -> int:
        """Number of classes that are true at least once."""
        return int((self.count > 0).sum())


@dataclass(frozen=True, eq=False)
class OfficialScores:
    """What the official evaluator says; shares, not percent.

    `ids` are the actions that count, `unpredicted` those of them without a prediction and `unasked` the
    predictions for ids that the annotations do not hold.
    """

    mode: Mode
    ids: tuple[str, ...]
    os: PartScores
    action: PartScores
    unpredicted: tuple[str, ...]
    unasked: tuple[str, ...]

    @property
    def os_ba(self) -> float:
        """Mean recall of offence and severity; compat: NaN when a class is absent, strict: left out."""
        return _mean_recall(self.os, self.mode)

    @property
    def action_ba(self) -> float:
        """Mean recall of the action classes, as `os_ba`."""
        return _mean_recall(self.action, self.mode)

    @property
    def leaderboard(self) -> float:
        """Mean of the two balanced accuracies."""
        return self.os_ba * 0.5 + self.action_ba * 0.5

    def to_dict(self) -> dict[str, float]:
        """Return the five numbers in percent under their official names."""
        return {
            "accuracy_offence_severity": self.os.accuracy * 100,
            "accuracy_action": self.action.accuracy * 100,
            "balanced_accuracy_offence_severity": self.os_ba * 100,
            "balanced_accuracy_action": self.action_ba * 100,
            "leaderboard_value": self.leaderboard * 100,
        }


def judge_official(
    truth: Annotations, predictions: Mapping[str, Entry], mode: Mode = "strict"
) -> OfficialScores:
    """Judge predictions by action id.

    strict: truth and prediction both go through `project_label`, the two parts are judged apart, and a part
    that is missing or has no official class is wrong. compat: equal to the published tool to the last bit; it
    compares strings as they are spelled, so a truth of "No Offence", or a Dive without a clear Offence, is
    never matched, and a Dive counts in the class of its severity but asks for a predicted 1.0.
    """
    counted = [(action, ids) for action in truth.actions if (ids := _official(action, mode)) is not None]
    entries = [predictions.get(action.id, {}) for action, _ in counted]
    true = np.array([ids for _, ids in counted], dtype=np.int64).reshape(-1, 2)
    guess = np.array([project_entry(entry) for entry in entries], dtype=np.int64).reshape(-1, 2)
    if mode == "strict":
        hit = guess == true
    else:
        matches = [_matched(action, ids, entry) for (action, ids), entry in zip(counted, entries)]
        hit = np.array(matches, dtype=np.bool_).reshape(-1, 2)
    known = {action.id for action in truth.actions}
    return OfficialScores(
        mode=mode,
        ids=tuple(action.id for action, _ in counted),
        action=PartScores(OFFICIAL_ACTIONS, true[:, 0], guess[:, 0], hit[:, 0]),
        os=PartScores(OFFICIAL_OS, true[:, 1], guess[:, 1], hit[:, 1]),
        unpredicted=tuple(action.id for action, _ in counted if action.id not in predictions),
        unasked=tuple(name for name in predictions if name not in known),
    )


def project_entry(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Return the official ids (action, offence and severity) of a prediction, -1 for a part without one."""
    named = entry.get(ACTION)
    action = OFFICIAL_ACTIONS.index(named) if named in OFFICIAL_ACTIONS else UNKNOWN
    if OFFENCE not in entry or SEVERITY not in entry:
        return action, UNKNOWN
    # offence and severity are judged whatever the action says; only a Dive changes how they are read
    projected = project_label(OFFICIAL_ACTIONS[max(action, 0)], entry[OFFENCE], entry[SEVERITY])
    return action, UNKNOWN if projected is None else projected[1]


def _official(action: Action, mode: Mode) -> tuple[int, int] | None:
    labels = action.action_class, action.offence, action.severity
    return None if mode == "compat" and action.offence not in _SPELLINGS else project_label(*labels)


def _matched(action: Action, ids: tuple[int, int], entry: Entry) -> tuple[bool, bool]:
    """Return whether the published tool counts action, and offence with severity, as right."""
    severity = action.severity
    if ids[1] == NO_OFFENCE:
        severity = ""
    elif action.action_class == "Dive":
        severity = "1.0"
    same_offence = entry.get(OFFENCE) == action.offence
    return entry.get(ACTION) == action.action_class, same_offence and entry.get(SEVERITY) == severity


def _mean_recall(part: PartScores, mode: Mode) -> float:
    recall = part.recall
    if mode == "compat":
        return float(np.mean(recall))
    present = recall[part.count > 0]
    return float(present.mean()) if len(present) else float("nan")
