"""What an experiment says: recall of every class, and what is made of it, with intervals over the actions.

A number is a mean over seeds. Its interval comes from resampled actions, the seeds averaged inside each
resample, so it covers which actions happened to be judged, and neither another backbone nor other training
actions; how far seeds lie apart is told by their standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics.group_bootstrap import GroupResamples, GroupSums, percentile_interval
from common.metrics.report import divide
from mvfouls.dataset import FoulDataset
from mvfouls.judging import LEVEL, Judgement
from mvfouls.labels import IGNORE, project_label
from mvfouls.official import PartScores
from mvfouls.report_rows import OFFICIAL, TITLES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RARE_SHARE = 1 / 3
"""Share of the classes of a task that count as rare, rounded up."""
COVERS = (
    "percentiles over resampled actions, the seeds averaged inside each resample: they cover which actions "
    "were judged, not another backbone or other training actions"
)


@dataclass(frozen=True, eq=False)
class Part:
    """One set of classes over N judged actions: an official part, or a task.

    `trained` [K] counts training samples, `truth` bool [N, K] is true where an action has the class; classes
    that no average runs over have none.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    trained: Ints
    truth: NDArray[np.bool_]

    @property
    def judged(self) -> Ints:
        """Return how many judged actions each class has, [K]."""
        return np.asarray(self.truth.sum(axis=0))

    @cached_property
    def order(self) -> list[int]:
        """Return the classes with a judged action, from the commonest in training to the rarest."""
        known = np.flatnonzero(self.judged)
        return sorted(known.tolist(), key=lambda place: (-self.trained[place], place))

    @cached_property
    def rare(self) -> list[int]:
        """Return the rarest third, rounded up, of the classes that were trained and are judged."""
        learned = [place for place in self.order if self.trained[place]]
        return learned[len(learned) - math.ceil(RARE_SHARE * len(learned)) :]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types; `order` holds the places of the judged classes, commonest in training first."""
        numbers = zip(self.classes, self.trained.tolist(), self.judged.tolist(), strict=True)
        return {
            "name": self.name,
            "title": self.title,
            "classes": [{"name": name, "trained": n, "judged": count} for name, n, count in numbers],
            "order": self.order,
            "rare": self.rare,
        }


def parts_of(judgement: Judgement, training: FoulDataset) -> list[Part]:
    """Return the official parts and then the tasks; `training` are the samples the heads learned from."""
    assert judgement.strict is not None
    place = {name: row for row, name in enumerate(judgement.ids)}
    counted = np.array([place[name] for name in judgement.strict.ids], dtype=np.int64)
    parts = []
    for number, (name, part) in enumerate(_official(judgement).items()):
        truth = np.zeros((len(place), len(part.names)), dtype=np.bool_)
        truth[counted, part.truth] = True
        trained = np.bincount(_projected(training, number), minlength=len(part.names))
        parts.append(Part(name, OFFICIAL[name], part.names, trained, truth))
    for name, task in judgement.tasks.items():
        classes = np.arange(len(task.labels.classes))
        truth = (task.truth[:, None] == classes) & task.averaged
        labels = training.presented_labels(name)
        trained = np.bincount(labels[labels != IGNORE], minlength=len(classes))
        parts.append(Part(name, TITLES[name], task.labels.classes, trained, truth))
    return parts


def hits_of(judgement: Judgement, parts: Sequence[Part]) -> NDArray[np.bool_]:
    """Return which actions were found in which class, bool [N, C] over the classes of all parts."""
    assert judgement.strict is not None
    place = {name: row for row, name in enumerate(judgement.ids)}
    counted = [place[name] for name in judgement.strict.ids]
    official = _official(judgement)
    found = []
    for part in parts:
        hit = np.zeros(len(place), dtype=np.bool_)
        if part.name in official:
            hit[counted] = official[part.name].hit
        else:
            task = judgement.tasks[part.name]
            hit = task.probabilities.argmax(axis=1) == task.truth
        found.append(part.truth & hit[:, None])
    return np.concatenate(found, axis=1)


class Scoreboard:
    """Turns hits [S, N, C] of S seeds into numbers, on shared resamples, so that differences are paired.

    ValueError with fewer than five actions, for which no interval means anything.
    """

    def __init__(self, parts: Sequence[Part], *, resamples: int, seed: int = 0) -> None:
        self.parts = list(parts)
        self.counts = np.concatenate([part.truth for part in parts], axis=1).astype(np.float64)
        self.resamples = GroupResamples(len(self.counts), n=resamples, seed=seed)
        ends = np.cumsum([len(part.classes) for part in parts])
        self.columns = {
            part.name: slice(int(end) - len(part.classes), int(end)) for part, end in zip(parts, ends)
        }

    @property
    def titles(self) -> dict[str, str]:
        """Return the numbers of a method by name, and what they are."""
        rare = {f"rare_{part.name}": f"Recall of rare classes: {part.title}" for part in self.parts}
        known = {f"{part.name}_ba": f"Balanced accuracy: {part.title}" for part in self.parts}
        return (
            {"leaderboard": "Leaderboard value", "rare": "Recall of rare classes (official)"} | known | rare
        )

    def numbers(self, recall: Floats) -> dict[str, Floats]:
        """Return every number of `titles` [...] for recalls [..., C]; NaN classes are left out of means."""
        values: dict[str, Floats] = {}
        for part in self.parts:
            own = recall[..., self.columns[part.name]]
            values[f"{part.name}_ba"] = _mean(own)
            values[f"rare_{part.name}"] = _mean(own[..., part.rare])
        values["leaderboard"] = (values["os_ba"] + values["action_ba"]) / 2
        values["rare"] = (values["rare_os"] + values["rare_action"]) / 2
        return {name: values[name] for name in self.titles}

    def recalls(self, hits: NDArray[np.bool_]) -> Floats:
        """Return the recall of every class for each seed, [S, C]."""
        return divide(hits.sum(axis=1), self.counts.sum(axis=0))

    def resampled(self, hits: NDArray[np.bool_]) -> Floats:
        """Return the recall of every class, mean of the seeds, in each resample, [n, C]."""
        share = hits.mean(axis=0)
        return self.resamples.means(GroupSums(share[None], self.counts[None]))


def summarise(
    board: Scoreboard, hits: Mapping[str, NDArray[np.bool_]], reference: str
) -> dict[str, dict[str, Any]]:
    """Return numbers, differences to `reference`, recalls and numbers per seed of each method.

    Plain types, shares: `numbers` and `recall` hold mean, sd, low and high, `differences` value, low and
    high, `runs` one mapping per seed. Without `reference` among the methods, and for itself, there are no
    differences.
    """
    drawn = {name: board.resampled(found) for name, found in hits.items()}
    other = None if reference not in hits else (board.recalls(hits[reference]), drawn[reference])
    made = {}
    for name, found in hits.items():
        recall = board.recalls(found)
        made[name] = {
            "runs": [_plain(board.numbers(each)) for each in recall],
            "numbers": _with_interval(board.numbers(recall), board.numbers(drawn[name])),
            "differences": None
            if other is None or name == reference
            else _differences(board, (recall, drawn[name]), other),
            "recall": _recalls(board, recall, drawn[name]),
        }
    return made


def _differences(
    board: Scoreboard, own: tuple[Floats, Floats], other: tuple[Floats, Floats]
) -> dict[str, dict[str, float]]:
    """Return value and interval of own minus other; both are recalls per seed and per resample."""
    seeds = [board.numbers(recall) for recall, _ in (own, other)]
    draws = [board.numbers(recall) for _, recall in (own, other)]
    made = {}
    for name in board.titles:
        low, high = percentile_interval((draws[0][name] - draws[1][name])[:, None], LEVEL)[:, 0]
        value = seeds[0][name].mean() - seeds[1][name].mean()
        made[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return made


def _recalls(board: Scoreboard, recall: Floats, drawn: Floats) -> dict[str, list[dict[str, float]]]:
    made = {}
    for name, columns in board.columns.items():
        values = {str(place): recall[:, columns][:, place] for place in range(columns.stop - columns.start)}
        resampled = {place: drawn[:, columns][:, int(place)] for place in values}
        made[name] = list(_with_interval(values, resampled).values())
    return made


def _with_interval(
    seeds: Mapping[str, Floats], resampled: Mapping[str, Floats]
) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation over seeds [S], and the interval of resamples [n], by name."""
    made = {}
    for name, values in seeds.items():
        low, high = percentile_interval(resampled[name][:, None], LEVEL)[:, 0]
        spread = values.std(ddof=1) if len(values) > 1 else float("nan")
        made[name] = {
            "mean": float(values.mean()), "sd": float(spread), "low": float(low), "high": float(high)
        }  # fmt: skip
    return made


def _mean(recall: Floats) -> Floats:
    """Return the mean over the last dimension of what is not NaN."""
    known = ~np.isnan(recall)
    return divide(np.where(known, recall, 0.0).sum(axis=-1), known.sum(axis=-1))


def _official(judgement: Judgement) -> dict[str, PartScores]:
    assert judgement.strict is not None
    return {"os": judgement.strict.os, "action": judgement.strict.action}


def _projected(training: FoulDataset, number: int) -> Ints:
    """Return the official class ids of the training samples: offence and severity (0), or action (1)."""
    actions = training.split.actions
    labels = (actions[row].labels for row in training.action_rows)
    known = (project_label(each.action_class, each.offence, each.severity) for each in labels)
    return np.array([ids[1 - number] for ids in known if ids is not None], dtype=np.int64)


def _plain(values: Mapping[str, Floats]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
