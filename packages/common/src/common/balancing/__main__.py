"""`python -m common.balancing counts.json`: everything that follows from label counts, on one page."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import tyro

from common.balancing.budget import BalanceBudget, BudgetSettings, balance_budget
from common.balancing.weights import (
    Strategy,
    class_weights,
    ldam_margins,
    repeat_factors,
    weights_from_counts,
)
from common.config import Also, Parsed, UserError, run_main
from common.statistics import ClassStatistics, Counts, Interval, Shares


@dataclass(frozen=True, kw_only=True)
class BalancingConfig:
    """What to compute from the counts."""

    counts: Annotated[Path, tyro.conf.Positional]
    """JSON {"counts": [...], "names": [...], "unit": "pixel"}, "group_counts"; or a count per line."""
    strategy: Strategy = "none"
    """Class weights entered into the balance budget."""
    max_weight_ratio: float | None = None
    """Cap on the largest over the smallest weight."""
    beta: float = 0.9999
    """Of the effective number of samples."""
    normalize: Literal["sample", "mean", "min", "none"] = "sample"
    """What the weights are scaled to."""
    tau: float = 0.0
    """Logit adjustment entered into the budget, on the prior the weights leave; 0 is off."""
    max_margin: float = 0.5
    """Margin of the rarest class."""
    repeat_threshold: float = 0.001
    """Share of groups (of labels, without group counts) under which a class is repeated."""
    repeat_power: float = 0.5
    """Exponent of the repeat factors."""
    repeat_cap: float | None = None
    """Largest repeat factor."""
    allow_overcorrection: Annotated[bool, Also("allow_stacking")] = False
    """Accept a strength above 1.5."""
    json: Path | None = None
    """File for the same numbers."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The numbers of one page: `weights` and `intervals` by strategy, everything else [K]."""

    statistics: ClassStatistics
    weights: dict[str, Shares]
    intervals: dict[str, Interval]
    margins: Shares
    repeats: Shares
    budget: BalanceBudget

    def lines(self) -> list[str]:
        """Return the page: counts, weights, margins, priors, advice, budget."""
        statistics = self.statistics
        columns = {
            "log prior": _log_prior(statistics),
            "sigmoid bias": statistics.bias_init("sigmoid"),
            "margin": self.margins,
            "repeat": self.repeats,
        }
        return [
            f"{statistics.support} {statistics.unit}s in {statistics.num_classes} classes, "
            f"ratio {self.budget.ratio:.1f}:1",
            *_table(statistics, columns),
            "",
            "class weights",
            *_table(statistics, self.weights),
            *self._interval_lines(),
            "",
            *(f"{level:8s} {text}" for level, text in statistics.advice()),
            "",
            *self.budget.lines(),
            *self.budget.table(),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the same numbers as plain types."""
        return {
            "statistics": self.statistics.to_dict(),
            "weights": {name: values.tolist() for name, values in self.weights.items()},
            "weights_95": {
                name: [[_plain(a), _plain(b)] for a, b in zip(low, high)]
                for name, (low, high) in self.intervals.items()
            },
            "log_prior": [_plain(value) for value in _log_prior(self.statistics)],
            "bias_softmax": self.statistics.bias_init().tolist(),
            "bias_sigmoid": self.statistics.bias_init("sigmoid").tolist(),
            "margins": self.margins.tolist(),
            "repeat_factors": self.repeats.tolist(),
            "advice": [list(hint) for hint in self.statistics.advice()],
            "budget": self.budget.to_dict(),
        }

    def _interval_lines(self) -> list[str]:
        if not self.intervals:
            return []
        rows = [
            f"{index:4d} "
            + "  ".join(f"{low[index]:.4g}-{high[index]:.4g}" for low, high in self.intervals.values())
            for index in range(self.statistics.num_classes)
        ]
        return ["", f"95 % intervals over groups: {', '.join(self.intervals)}", *rows]


def analyze(statistics: ClassStatistics, config: BalancingConfig) -> Analysis:
    """Compute every strategy, and the budget of the one asked for."""
    strategies: tuple[Strategy, ...] = get_args(Strategy)
    intervals: dict[str, Interval] = {}
    if statistics.group_counts is not None:
        for name in strategies[1:]:
            intervals[name] = statistics.bootstrap(functools.partial(_known, name=name, config=config))
    frequencies = statistics.prior
    if statistics.group_counts is not None:
        frequencies = statistics.presence_counts / len(statistics.group_counts)
    return Analysis(
        statistics=statistics,
        weights={name: _weights(statistics.counts, name, config) for name in strategies},
        intervals=intervals,
        margins=ldam_margins(statistics.counts, max_margin=config.max_margin),
        repeats=repeat_factors(
            frequencies, threshold=config.repeat_threshold, power=config.repeat_power, cap=config.repeat_cap
        ),
        budget=_budget(statistics, config),
    )


def read_statistics(path: Path) -> ClassStatistics:
    """Read counts; ValueError names the file and what is wrong in it."""
    text = path.read_text(encoding="utf-8")
    try:
        if not text.lstrip().startswith("{"):
            return ClassStatistics.from_counts([int(line) for line in text.split()])
        content = json.loads(text)
        if "schema" in content:
            return ClassStatistics.from_dict(content)
        unknown = set(content) - {"counts", "names", "unit", "group_counts"}
        if unknown or "counts" not in content:
            raise ValueError(f'"counts" is needed, {sorted(unknown)} unknown')
        counts = content.pop("counts")
        return ClassStatistics.from_counts(counts, **content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def run(parsed: Parsed[BalancingConfig]) -> int:
    """Print the page; 1 when the budget holds an error. UserError when the counts cannot be read."""
    config = parsed.config
    try:
        analysis = analyze(read_statistics(config.counts), config)
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    sys.stdout.write("\n".join(analysis.lines()) + "\n")
    if config.json is not None:
        config.json.write_text(json.dumps(analysis.to_dict(), indent=2) + "\n", encoding="utf-8")
    return 1 if analysis.budget.errors else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; 2 for what the user can correct."""
    return run_main(
        run,
        BalancingConfig,
        argv,
        prog="python -m common.balancing",
        description="Everything that follows from label counts, on one page.",
    )


def _weights(counts: Counts, name: Strategy, config: BalancingConfig) -> Shares:
    return weights_from_counts(
        counts, name, max_ratio=config.max_weight_ratio, beta=config.beta, normalize=config.normalize
    )


def _known(counts: Counts, name: Strategy, config: BalancingConfig) -> Shares:
    return np.where(counts > 0, _weights(counts, name, config), np.nan)


def _budget(statistics: ClassStatistics, config: BalancingConfig) -> BalanceBudget:
    weights = None
    if config.strategy != "none":
        weights = class_weights(
            statistics,
            config.strategy,
            max_ratio=config.max_weight_ratio,
            beta=config.beta,
            normalize=config.normalize,
        )
    offset = None
    if config.tau:
        left = balance_budget(statistics, weights=weights).weighted
        offset = config.tau * np.log(np.where(left > 0, left, 1.0))
    settings = BudgetSettings(
        weights=config.strategy,
        loss="logit_adjusted" if config.tau else "cross_entropy",
        max_ratio=config.max_weight_ratio if weights is not None else None,
        allow_overcorrection=config.allow_overcorrection,
    )
    return balance_budget(statistics, weights=weights, offset=offset, settings=settings)


def _log_prior(statistics: ClassStatistics) -> Shares:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(statistics.prior))


def _table(statistics: ClassStatistics, columns: dict[str, Shares]) -> list[str]:
    names = statistics.names or ("",) * statistics.num_classes
    widths = {name: max(9, len(name)) for name in columns}
    head = f"{'id':>4} {'name':16} {statistics.unit + 's':>15} {'share %':>9}"
    rows = [
        f"{index:4d} {name:16} {int(statistics.counts[index]):15d} {100 * statistics.prior[index]:9.4f}"
        for index, name in enumerate(names)
    ]
    for column, values in columns.items():
        head += f" {column:>{widths[column]}}"
        rows = [f"{row} {value:{widths[column]}.5g}" for row, value in zip(rows, values)]
    return [head, *rows]


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
