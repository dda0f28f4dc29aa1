"""Console lines about losses and balancing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from common.balancing.budget import BalanceBudget
from common.statistics import ClassStatistics
from mvfouls.soft_labels import PARTS

if TYPE_CHECKING:
    from mvfouls.settings import LossSettings


def loss_line(
    task: str, loss: LossSettings, statistics: ClassStatistics, margins: Sequence[float] | None
) -> str:
    """Return the `loss` line of a task: what differs from a plain mean cross-entropy of weight 1."""
    words = [task, loss.kind, *_parameters(loss)]
    if margins is not None:
        names = statistics.names or [str(index) for index in range(len(margins))]
        words.append("margins " + " ".join(f"{n} {short(m, 4)}" for n, m in zip(names, margins, strict=True)))
    if loss.weight != 1:
        words.append(f"| task weight {loss.weight:g}")
    return "loss     " + " ".join(words)


def balance_line(
    task: str, budget: BalanceBudget, factor: float | None, weights: Sequence[float] | None
) -> str:
    """Return the `balance` line of a task: counts, factor or sampler, weights, and their product.

    A label that two classes share counts half for each.
    """
    statistics = budget.statistics
    names = statistics.names or [str(index) for index in range(statistics.num_classes)]
    parts = PARTS if statistics.unit == "half sample" else 1
    counts = " ".join(
        f"{name}={count / parts:.15g}" for name, count in zip(names, statistics.counts.tolist())
    )
    sampler = f"sampler {budget.settings.sampler}" if factor is None else f"f {factor:.2f}"
    return " | ".join(
        [
            f"balance  {task} {counts}",
            sampler,
            f"weights {'none' if weights is None else _shorts(weights)}",
            f"effective {_shorts(budget.effective.tolist())}",
            f"rho {_known(budget.strength)} inversion {_known(budget.inversion)}",
        ]
    )


def short(value: float, digits: int = 2) -> str:
    """Return a number without the zero before its point: .67, -.05, 5.35.

    >>> short(-0.054)
    '-.05'
    """
    text = f"{abs(value):.{digits}f}"
    return ("-" if value < 0 < float(text) else "") + text.removeprefix("0")


def _shorts(values: Iterable[float]) -> str:
    return " ".join(map(short, values))


def _known(value: float | None) -> str:
    return "-" if value is None else short(value)


def _parameters(loss: LossSettings) -> list[str]:
    words = []
    if loss.kind == "focal":
        words.append(f"gamma={loss.gamma:g}")
    if loss.kind == "ldam":
        words.append(f"s={loss.scale:g} max_m={loss.max_margin:g}")
        words += [] if loss.drw_start is None else [f"drw={loss.drw_start:g}"]
    if loss.adjustment is not None:
        words.append(f"tau={loss.adjustment:g}")
    if loss.smoothing:
        words.append(f"smoothing={loss.smoothing:g}")
    return words
