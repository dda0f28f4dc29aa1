"""What runs say together: means over seeds with intervals, differences between losses, a ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics.group_bootstrap import (
    FEWEST_GROUPS,
    FEWEST_RUNS,
    GroupResamples,
    GroupSums,
    group_sums,
    holm,
    percentile_interval,
    two_sided_p,
)
from eye_fixation.metrics import Scores

FloatArray = NDArray[np.float64]
Runs = Sequence[Scores]

LOWER_IS_BETTER = ("mde_", "energy", "ece_", "step_w1")
NO_RANKING = "intervals cover test groups only, no ranking"
SEED_COMPAT = (
    "best_val_loss",
    "final_train_loss",
    "test_loss",
    "white_pixel_recall",
    "white_pixel_precision",
    "f1_score",
)


class GroupStatistics:
    """Summaries and comparisons of models judged on the same sequences.

    `group` [N] is the image, recording or subject of each sequence; groups are drawn, then seeds, `resamples`
    times, and all models see the same draws. 0 resamples, or fewer than five groups, give no intervals.
    `warnings` holds the lines to show, each once.
    """

    def __init__(
        self, group: NDArray[np.int64], *, resamples: int = 2000, level: float = 0.95, seed: int = 0
    ) -> None:
        self.group = np.asarray(group)
        self.n_groups = len(np.unique(self.group))
        self.level = level
        self.warnings: list[str] = []
        self.resamples: GroupResamples | None = None
        if resamples and self.n_groups >= FEWEST_GROUPS:
            self.resamples = GroupResamples(self.n_groups, n=resamples, seed=seed)
        elif resamples:
            self._warn(f"no interval: {self.n_groups} groups, at least {FEWEST_GROUPS} are needed")

    def summary(self, runs: Runs) -> dict[str, dict[str, Any]]:
        """Return mean, sd over seeds, ci, per_horizon, n_seeds, n_groups of every metric of a model's runs.

        A metric that is no mean over frames has no ci; sd is None for one run. `bits` has per_horizon_ci too.
        """
        intervals = self._intervals(runs)
        return {name: self._entry(name, runs, intervals.get(name)) for name in runs[0].values}

    def comparison(
        self,
        models: Mapping[str, Runs],
        *,
        metric: str = "bits",
        reference: tuple[str, Scores] | None = None,
    ) -> dict[str, Any]:
        """Return paired differences of `metric` of every model to the reference and to every other model.

        p_holm is adjusted over the models compared with the reference, and apart from them over the pairs of
        models. `ranking` has the best first; it is supported by three seeds of each model and an interval.
        ValueError for a metric that cannot be resampled.
        """
        enough = all(len(runs) >= FEWEST_RUNS for runs in models.values())
        # what an earlier call said of fewer runs is over
        self.warnings = [line for line in self.warnings if line != NO_RANKING]
        if not enough:
            self._warn(NO_RANKING)
        data = {name: self._column(metric, runs) for name, runs in models.items()}
        between = list(combinations(models, 2))
        pairs = []
        if reference is not None:
            name, scores = reference
            pairs += self._pairs(
                [(model, name) for model in models], data | {name: self._column(metric, [scores])}
            )
        pairs += self._pairs(between, data)
        sign = 1 if metric.startswith(LOWER_IS_BETTER) else -1
        return {
            "metric": metric,
            "reference": None if reference is None else reference[0],
            "pairs": pairs,
            "ranking": sorted(models, key=lambda model: sign * float(data[model].means()[0])),
            "ranking_supported": bool(models) and enough and self.resamples is not None,
        }

    def standard_errors_above(self, runs: Runs, bound: Scores, *, metric: str = "bits") -> float:
        """Return by how many standard errors the runs lie above a bound no honest model exceeds.

        NaN without intervals. Above 3, training has seen what it is tested on.
        """
        model, limit = self._column(metric, runs), self._column(metric, [bound])
        if self.resamples is None:
            return float("nan")
        spread = float((self.resamples.means(model) - self.resamples.means(limit)).std(ddof=1))
        difference = float((model.means() - limit.means())[0])
        return difference / spread if spread else math.copysign(math.inf, difference) if difference else 0.0

    def _entry(self, name: str, runs: Runs, interval: FloatArray | None) -> dict[str, Any]:
        values = np.array([run.values[name] for run in runs])
        lists = [run.per_horizon[name] for run in runs if name in run.per_horizon]
        entry: dict[str, Any] = {
            "mean": float(values.mean()),
            "sd": float(values.std(ddof=1)) if len(runs) > 1 else None,
            "ci": None if interval is None else interval[:, 0].tolist(),
            "per_horizon": np.mean(lists, axis=0).tolist() if lists else None,
            "n_seeds": len(runs),
            "n_groups": self.n_groups,
        }
        if interval is not None and interval.shape[1] > 1:
            entry["per_horizon_ci"] = interval[:, 1:].T.tolist()
        return entry

    def _intervals(self, runs: Runs) -> dict[str, FloatArray]:
        """Return the ends of the interval of each metric that can be resampled, [2, columns]."""
        if self.resamples is None:
            return {}
        names = list(runs[0].sequences)
        widths = [runs[0].sequences[name].sums.shape[1] for name in names]
        ends = percentile_interval(self.resamples.means(self._sums(names, runs)), self.level)
        starts = np.cumsum([0, *widths])
        return {name: ends[:, at : at + width] for name, at, width in zip(names, starts, widths)}

    def _sums(self, names: Sequence[str], runs: Runs) -> GroupSums:
        parts = [
            np.stack([np.concatenate([run.sequences[name][part] for name in names], axis=1) for run in runs])
            for part in (0, 1)
        ]
        return group_sums(parts[0], parts[1], self.group)

    def _column(self, metric: str, runs: Runs) -> GroupSums:
        """Return the sums of one metric over all horizons, [R, G, 1]."""
        if missing := [run for run in runs if metric not in run.sequences]:
            known = ", ".join(missing[0].sequences)
            raise ValueError(f"metric {metric!r} cannot be resampled: one of {known} is expected")
        data = self._sums([metric], runs)
        return GroupSums(data.sums[:, :, :1], data.counts[:, :, :1])

    def _pairs(self, names: Sequence[tuple[str, str]], data: Mapping[str, GroupSums]) -> list[dict[str, Any]]:
        draws: dict[str, FloatArray] = {}
        if self.resamples is not None:
            draws = {name: self.resamples.means(part)[:, 0] for name, part in data.items()}
        pairs, p_values = [], []
        for a, b in names:
            pair: dict[str, Any] = {"a": a, "b": b, "ci": None}
            pair["difference"] = float((data[a].means() - data[b].means())[0])
            if draws:
                gap = draws[a] - draws[b]
                pair["ci"] = percentile_interval(gap[:, None], self.level)[:, 0].tolist()
                p_values.append(two_sided_p(gap))
            pairs.append(pair)
        adjusted = holm(p_values) if draws else [None] * len(pairs)
        return [{**pair, "p_holm": p} for pair, p in zip(pairs, adjusted)]

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)


def seed_compat_summary(runs: Sequence[Mapping[str, float]]) -> dict[str, float | bool]:
    """Return the seven documented keys of one loss: means over seeds, `converged` if every seed did."""
    means: dict[str, float | bool] = {key: float(np.mean([run[key] for run in runs])) for key in SEED_COMPAT}
    means["converged"] = all(run["converged"] for run in runs)
    return means


def without_nan(value: Any, where: str = "") -> tuple[Any, list[str]]:
    """Return plain types with None for numbers that JSON does not have, and where those stood."""
    if isinstance(value, Mapping):
        parts = {str(key): without_nan(part, f"{where}.{key}".lstrip(".")) for key, part in value.items()}
        return {key: part for key, (part, _) in parts.items()}, [
            w for _, seen in parts.values() for w in seen
        ]
    if isinstance(value, list | tuple):
        items = [without_nan(part, f"{where}[{at}]") for at, part in enumerate(value)]
        return [part for part, _ in items], [w for _, seen in items for w in seen]
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return None, [where]
    return (value.item() if isinstance(value, np.generic) else value), []


def null_warnings(places: Sequence[str]) -> list[str]:
    """Return the lines that say what `without_nan` replaced: the metrics' names, each once.

    A metric is what follows `summary`, `raw`, `calibrated` or `per_horizon` in a place, else its last name.
    """
    names = dict.fromkeys(sorted(map(_metric, places)))
    degrees = [name for name in names if "_deg" in name]
    others = [name for name in names if name not in degrees]
    lines = ["degree metrics are null: the screen's geometry is unknown"] if degrees else []
    return lines + ([f"undefined, stored as null: {', '.join(others)}"] if others else [])


def _metric(place: str) -> str:
    parts = [part.split("[")[0] for part in place.split(".")]
    holders = ("summary", "raw", "calibrated", "per_horizon")
    above = [at for at, part in enumerate(parts[:-1]) if part in holders]
    return parts[above[-1] + 1] if above else parts[-1]
