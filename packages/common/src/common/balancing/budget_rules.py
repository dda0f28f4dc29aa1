"""Rules by which a balance budget is judged: each returns the findings (level, text) that fire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common.balancing.weights import NOTICEABLE_IMBALANCE, SATURATED_RATIO, weight_ratio

if TYPE_CHECKING:
    from common.balancing.budget import BalanceBudget

Finding = tuple[str, str]

WARN_STRENGTH = 1.05
ERROR_STRENGTH = 1.5
MOST_REPEATS = 50
LEAST_POSITIVE_SHARE = 0.01


def positive_loss_share(positives: float, alpha: float) -> float:
    """Return the positives' part of a sigmoid focal loss while every probability is one half.

    `positives` is their share of the elements; gamma cancels out (Lin 2017).
    """
    return alpha * positives / (alpha * positives + (1 - alpha) * (1 - positives))


def _source_rule(budget: BalanceBudget) -> list[Finding]:
    found, seen = [], budget.statistics.present
    if budget.statistics.split != "train":
        text = f"corrections come from statistics of split {budget.statistics.split!r}: train is expected"
        found.append(("error", text))
    if np.ptp(budget.offset[seen]) > 0 and np.ptp(budget.posthoc_offset[seen]) > 0:
        text = "offset in training and posthoc_offset in prediction correct the prior twice: keep one"
        found.append(("error", text))
    return found


def _smoothing_rule(budget: BalanceBudget) -> list[Finding]:
    epsilon = budget.settings.smoothing
    if budget.settings.smoothing_weighting != "torch" or epsilon == 0:
        return []
    bound = budget.statistics.num_classes * (1 - epsilon) / epsilon + 1
    ratio = weight_ratio(budget.weights * budget.alpha, budget.statistics.present)
    if ratio <= bound / 2:
        return []
    text = (
        f"torch label smoothing {epsilon:g} with weights {ratio:.1f}:1: above {bound:.1f}:1 the optimum "
        "leaves the true class; take smoothing_weighting hard, or cap the weights"
    )
    return [("error" if ratio > bound else "warning", text)]


def _strength_rule(budget: BalanceBudget) -> list[Finding]:
    strength, statistics = budget.strength, budget.statistics
    if strength is None or not strength > WARN_STRENGTH:
        return []
    text = (
        f"strength {strength:.2f} (1 uniform, 2 inverted) from {_factors(budget)}, in favour of "
        f"{statistics.label(statistics.minority)} over {statistics.label(statistics.majority)} at a ratio of "
        f"{budget.ratio:.1f}:1"
    )
    return [_overcorrection(budget, strength, text)]


def _inversion_rule(budget: BalanceBudget) -> list[Finding]:
    pair = budget.inverted_pair if budget.settings.judge_inversion else None
    if pair is None or not pair[0] > WARN_STRENGTH:
        return []
    inversion, rarer, commoner = pair
    label, counts = budget.statistics.label, budget.statistics.counts
    labels = "half labels" if budget.statistics.unit == "half sample" else "labels"
    text = (
        f"inversion {inversion:.2f} (1 none) from {_factors(budget)}: {label(rarer)} with {counts[rarer]} "
        f"{labels} is favoured over {label(commoner)} with {counts[commoner]}"
    )
    return [_overcorrection(budget, inversion, text)]


def _overcorrection(budget: BalanceBudget, value: float, text: str) -> Finding:
    allowed = budget.settings.allow_overcorrection
    remedy = "drop one of them" + ("" if allowed else ", or --allow-stacking (--allow-overcorrection)")
    severe = value > ERROR_STRENGTH and not allowed
    return ("error" if severe else "warning", f"overcorrection: {text}; {remedy}")


def _factors(budget: BalanceBudget) -> str:
    return ", ".join(f"{name} x{value:.4g}" for name, value in budget.factors.items())


def _sigmoid_alpha_rule(budget: BalanceBudget) -> list[Finding]:
    alpha, statistics = budget.sigmoid_alpha, budget.statistics
    if alpha is None or budget.ratio == 1:
        return []
    rare = statistics.minority
    positives = float(statistics.prior[rare])
    share = positive_loss_share(positives, alpha)
    if share >= LEAST_POSITIVE_SHARE:
        return []
    text = (
        f"sigmoid focal alpha {alpha:g} leaves the positives of {statistics.label(rare)} "
        f"{100 * share:.3g} % of the initial loss: take alpha {1 - positives:.6g} (balanced) or initial bias "
        f"{statistics.bias_init('sigmoid')[rare]:.3f}"
    )
    return [("warning", text)]


def _repeat_rule(budget: BalanceBudget) -> list[Finding]:
    if budget.ratio == 1 or budget.repeats <= MOST_REPEATS:
        return []
    name = budget.statistics.label(budget.repeated_class)
    return [
        (
            "warning",
            f"a sample of {name} is expected {budget.repeats:.1f} times per epoch, over {MOST_REPEATS}",
        )
    ]


def _effect_rule(budget: BalanceBudget) -> list[Finding]:
    """Name the corrections that were asked for and change nothing."""
    if budget.ratio == 1:
        return []
    seen, words = budget.statistics.present, budget.settings
    found = []
    if "presented" in budget.given and np.allclose(budget.growth[seen], 1, rtol=1e-6, atol=0):
        found.append(f"sampler {words.sampler} has no effect: it presents the natural shares")
    ratio = weight_ratio(budget.weights, seen)
    if "weights" in budget.given and ratio < SATURATED_RATIO and budget.ratio > NOTICEABLE_IMBALANCE:
        found.append(f"weights {words.weights} have no effect: {ratio:.3f}:1 at counts {budget.ratio:.1f}:1")
    if words.max_ratio is not None and ratio < words.max_ratio * (1 - 1e-9):
        found.append(f"max_ratio {words.max_ratio:g} has no effect: weights are {ratio:.3g}:1")
    for name in ("alpha", "offset", "posthoc_offset"):
        same = not np.ptp(getattr(budget, name)[seen]) and budget.sigmoid_alpha is None
        if name in budget.given and same:
            found.append(f"{name} has no effect: it is the same for every class")
    return [("warning", text) for text in found]


RULES = (
    _source_rule,
    _smoothing_rule,
    _strength_rule,
    _inversion_rule,
    _sigmoid_alpha_rule,
    _repeat_rule,
    _effect_rule,
)
