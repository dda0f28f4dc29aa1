"""What a validation says: official score with its interval, and every task by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics import report
from common.metrics.bootstrap import Interval, bootstrap_ci
from mvfouls.annotations import Annotations
from mvfouls.labels import IGNORE, OFFICIAL_ACTIONS, OFFICIAL_OS, TASKS, TaskLabels
from mvfouls.official import OfficialScores, PartScores, judge_official
from mvfouls.projection import Projected, missing_heads, project_probabilities
from mvfouls.settings import ProjectionSettings
from mvfouls.submission import entries_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 2000
RED = OFFICIAL_OS.index("Red")
_OS, _PARTS = len(OFFICIAL_OS), len(OFFICIAL_OS) + len(OFFICIAL_ACTIONS)


def wilson(hits: NDArray[Any], count: NDArray[Any], level: float = LEVEL) -> tuple[Floats, Floats]:
    """Return both ends of the score interval of hits / count, elementwise; NaN where count is 0.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, equation 4.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    n = np.asarray(count, dtype=np.float64)
    share = report.divide(np.asarray(hits), n)
    scale = report.divide(np.ones_like(n), n)
    middle = (share + z * z * scale / 2) / (1 + z * z * scale)
    half = z * np.sqrt(share * (1 - share) * scale + (z * scale / 2) ** 2) / (1 + z * z * scale)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def leaderboard_interval(
    scores: OfficialScores, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Return the leaderboard value, a share, and its percentile interval over resampled actions.

    Classes without an action, in the data or in a resample, are left out of their mean. The ends are NaN
    with fewer than two actions or without resamples.
    """
    matrices = _outcomes(scores)
    if len(matrices) > 1 and resamples:
        return bootstrap_ci(matrices, _leaderboard, n=resamples, level=level, seed=seed)
    unknown = np.asarray(np.nan)
    return Interval(np.asarray(_leaderboard(matrices.sum(axis=0))), unknown, unknown)


def _outcomes(scores: OfficialScores) -> Ints:
    """Return per action a matrix [N, 13, 13] of both parts side by side; the last column holds misses."""
    matrices = np.zeros((len(scores.ids), _PARTS + 1, _PARTS + 1), dtype=np.int64)
    rows = np.arange(len(scores.ids))
    for part, offset in ((scores.os, 0), (scores.action, _OS)):
        true = part.truth + offset
        matrices[rows, true, np.where(part.hit, true, _PARTS)] = 1
    return matrices


def _leaderboard(matrix: Ints) -> Floats:
    """Return the leaderboard value of matrices [..., 13, 13]."""
    recall = report.recall(matrix)[..., :_PARTS]
    present = ~np.isnan(recall)
    known = np.where(present, recall, 0.0)
    parts = [
        report.divide(known[..., part].sum(-1), present[..., part].sum(-1))
        for part in (slice(_OS), slice(_OS, _PARTS))
    ]
    return np.asarray((parts[0] + parts[1]) / 2)


@dataclass(frozen=True, eq=False)
class JudgedTask:
    """One task over N actions: true class int64 [N] (-100: none) and probabilities [N, K].

    Averages run over the classes that occur; a junk class, of which only legacy ids know, is never among
    them.
    """

    labels: TaskLabels
    truth: Ints
    probabilities: Floats

    @cached_property
    def matrix(self) -> Ints:
        """Confusion matrix [K, K], rows true."""
        import torch  # judging a file of predictions does not need it

        from common.metrics.confusion import ConfusionMatrix

        counts = ConfusionMatrix(len(self.labels.classes), ignore_index=IGNORE)
        counts.update(torch.from_numpy(self.probabilities.argmax(axis=1)), torch.from_numpy(self.truth))
        return counts.compute().numpy()

    @cached_property
    def averaged(self) -> NDArray[np.bool_]:
        """Which classes an average runs over, [K]."""
        known = TASKS[self.labels.name].classes
        official = np.array([name in known for name in self.labels.classes])
        return official & report.averaged_classes(self.matrix)

    @property
    def accuracy(self) -> float:
        """Share of labelled actions that were right."""
        return float(report.accuracy(self.matrix))

    @property
    def ba(self) -> float:
        """Mean recall of the averaged classes."""
        return self._mean(report.recall(self.matrix))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the averaged classes."""
        return self._mean(report.f1(self.matrix))

    @cached_property
    def top2(self) -> float:
        """Share of labelled actions whose class is among the two likeliest, the lower id first."""
        kept = self.truth != IGNORE
        p, true = self.probabilities[kept], self.truth[kept, None]
        own = np.take_along_axis(p, true, axis=1)
        before = (p > own) | ((p == own) & (np.arange(p.shape[1]) < true))
        return float(report.divide((before.sum(axis=1) < 2).sum(), kept.sum()))

    def _mean(self, values: Floats) -> float:
        chosen = self.averaged
        return float(report.divide(np.nan_to_num(values[chosen]).sum(), chosen.sum()))


@dataclass(frozen=True, eq=False)
class Judgement:
    """One validation of the actions `ids`.

    `partial`: not every action was judged, so the official part speaks for those that were and claims no
    leaderboard value. Without the heads for an official prediction `projected`, `strict`, `compat` and
    `interval` are None; `lacking` says which are missing.
    """

    ids: tuple[str, ...]
    tasks: Mapping[str, JudgedTask]
    partial: bool
    lacking: str | None
    projected: Projected | None = None
    strict: OfficialScores | None = None
    compat: OfficialScores | None = None
    interval: Interval | None = None

    @property
    def mean_ba(self) -> float:
        """Mean balanced accuracy of the tasks that have labels."""
        known = np.array([task.ba for task in self.tasks.values()])
        known = known[~np.isnan(known)]
        return float(known.mean()) if len(known) else float("nan")

    def entries(self) -> dict[str, dict[str, str]]:
        """Return the official predictions by action id; empty without the heads for them."""
        return {} if self.projected is None else entries_of(self.ids, self.projected)

    def metrics(self) -> dict[str, float]:
        """Return every number as a share under a flat name; NaN where nothing can be said.

        `partial` is 1 when not every action was judged, and absent otherwise.
        """
        values = self._official_metrics()
        for name, task in self.tasks.items():
            values |= {f"{name}_acc": task.accuracy, f"{name}_ba": task.ba}
            values |= {f"{name}_macro_f1": task.macro_f1, f"{name}_top2": task.top2}
            values |= _recalls(name, report.recall(task.matrix))
        values["mean_ba"] = self.mean_ba
        return values | ({"partial": 1.0} if self.partial else {})

    def _official_metrics(self) -> dict[str, float]:
        if self.strict is None or self.interval is None:
            return {}
        values = {"leaderboard": self.strict.leaderboard}
        values |= {f"leaderboard_{end}": float(getattr(self.interval, end)) for end in ("low", "high")}
        parts: dict[str, tuple[PartScores, float]] = {
            "os": (self.strict.os, self.strict.os_ba),
            "action": (self.strict.action, self.strict.action_ba),
        }
        for name, (part, ba) in parts.items():
            values |= {f"{name}_ba": ba, f"{name}_acc": part.accuracy, **_recalls(name, part.recall)}
        return values


def judge(
    probabilities: Mapping[str, NDArray[Any]],
    ids: Sequence[str],
    truth: Annotations,
    tasks: Mapping[str, TaskLabels],
    projection: ProjectionSettings,
    *,
    partial: bool = False,
    resamples: int = RESAMPLES,
) -> Judgement:
    """Judge the probabilities [N, K] of each task for the actions `ids` of `truth`.

    Actions of `truth` that are not among `ids` are wrong for the official score, unless `partial`, when they
    are left out. ValueError for an id that `truth` does not hold or that comes twice, and for probabilities
    of another shape.
    """
    held = {action.id: action for action in truth.actions}
    strangers = [name for name in ids if name not in held]
    if strangers or len(set(ids)) != len(ids):
        raise ValueError(f"ids: {strangers[:5] or 'an id comes twice'}; each of the annotations is expected")
    chosen = [held[name] for name in ids]
    judged = {}
    for task, values in probabilities.items():
        labels = tasks[task]
        if values.shape != (len(chosen), len(labels.classes)):
            raise ValueError(f"{task}: {(len(chosen), len(labels.classes))} is expected, not {values.shape}")
        true = np.array([labels.judged(action) for action in chosen], dtype=np.int64)
        judged[task] = JudgedTask(labels, true, np.asarray(values, dtype=np.float64))
    result = Judgement(tuple(ids), judged, partial, missing_heads(probabilities))
    if result.lacking is not None:
        return result
    projected = project_probabilities(probabilities, tasks, projection)
    entries = entries_of(ids, projected)
    asked = replace(truth, actions=tuple(chosen)) if partial else truth
    strict = judge_official(asked, entries, "strict")
    return replace(
        result,
        projected=projected,
        strict=strict,
        compat=judge_official(asked, entries, "compat"),
        interval=leaderboard_interval(strict, resamples=resamples),
    )


def _recalls(name: str, recall: Floats) -> dict[str, float]:
    return {f"{name}_recall/{place}": float(value) for place, value in enumerate(recall)}
