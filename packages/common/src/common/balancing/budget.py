"""The balance budget: every correction for imbalance multiplied out, and what their product does."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.balancing.budget_rules import RULES, Finding
from common.balancing.weights import check_shares, check_weights
from common.statistics import ClassStatistics, Shares

CLASSES_PER_LINE = 8
VECTORS = ("presented", "weights", "alpha", "offset", "posthoc_offset")


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """What the budget must know beside the vectors.

    `loss`, `weights`, `sampler` are the words of the console; `smoothing` the label smoothing and whether
    class weights act on its mass (`torch`) or not (`hard`); `max_ratio` the cap asked for on the weights;
    `epoch_scale` draws per epoch over the number of samples. `allow_overcorrection` turns the error of a
    strength above 1.5 into a warning, `strict` turns every warning into an error. `judge_inversion` sets the
    bounds of the strength on the inversion as well.
    """

    loss: str = "cross_entropy"
    weights: str = "none"
    sampler: str = "none"
    smoothing: float = 0.0
    smoothing_weighting: Literal["hard", "torch"] = "hard"
    max_ratio: float | None = None
    epoch_scale: float = 1.0
    allow_overcorrection: bool = False
    judge_inversion: bool = False
    strict: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class BalanceBudget:
    """The corrections as vectors [K] (neutral where not in `given`), and what follows from them."""

    statistics: ClassStatistics
    presented: Shares
    weights: Shares
    alpha: Shares
    offset: Shares
    posthoc_offset: Shares
    given: frozenset[str] = frozenset()
    sigmoid_alpha: float | None = None
    settings: BudgetSettings = field(default_factory=BudgetSettings)

    @functools.cached_property
    def ratio(self) -> float:
        """Largest over smallest natural count of the present classes."""
        counts = self.statistics.counts[self.statistics.present]
        return float(counts.max() / counts.min())

    @functools.cached_property
    def growth(self) -> Shares:
        """Presented over natural share [K]: how often the sampler repeats a label; 0 for absent classes."""
        growth = np.zeros(self.statistics.num_classes)
        seen = self.statistics.present
        growth[seen] = self.presented[seen] / self.statistics.prior[seen]
        return growth

    @functools.cached_property
    def weighted(self) -> Shares:
        """Weighted prior q [K]: what the loss is averaged over; ValueError when every class is weighted 0."""
        product = self.presented * self.weights * self.alpha
        if not product.sum() > 0:
            raise ValueError("presented x weights x alpha is 0 for every class: nothing would be learned")
        return np.asarray(product / product.sum())

    @functools.cached_property
    def effective(self) -> Shares:
        """Effective prior e [K] of the decisions: q exp(-offsets), normalised."""
        shift = self.offset + self.posthoc_offset
        product = self.weighted * np.exp(shift[self.statistics.present].min() - shift)
        return np.asarray(product / product.sum())

    @functools.cached_property
    def strength(self) -> float | None:
        """Strength rho: 0 natural, 1 uniform, 2 inverted; None when the counts are balanced."""
        if self.ratio == 1:
            return None
        return 1 - self._log_odds(self.effective) / self._log_odds(self.statistics.prior)

    @functools.cached_property
    def inversion(self) -> float | None:
        """Largest e_b / e_a over classes b with fewer labels than a; None when the counts are balanced.

        Above 1 a rarer class is favoured over a more frequent one. The strength compares the two extreme
        classes alone and misses those between.
        """
        return None if self.inverted_pair is None else self.inverted_pair[0]

    @functools.cached_property
    def inverted_pair(self) -> tuple[float, int, int] | None:
        """(inversion, b, a): the rarer and the more frequent class where it is largest."""
        order = np.argsort(np.where(self.statistics.present, self.statistics.counts, -1), kind="stable")
        order = order[np.count_nonzero(~self.statistics.present) :]
        counts, shares = self.statistics.counts[order], self.effective[order]
        pairs = []
        for place, rarer in enumerate(np.searchsorted(counts, counts).tolist()):
            favoured = int(shares[:rarer].argmax()) if rarer else place
            if rarer and (shares[favoured] > 0 or shares[place] > 0):
                with np.errstate(divide="ignore"):
                    ratio = float(shares[favoured] / shares[place])
                pairs.append((ratio, int(order[favoured]), int(order[place])))
        return max(pairs, default=None)

    @property
    def repeated_class(self) -> int:
        """Id of the class whose samples are repeated most."""
        return int(np.argmax(self.growth))

    @property
    def repeats(self) -> float:
        """Expected draws per epoch of a sample of `repeated_class`."""
        return float(self.growth[self.repeated_class]) * self.settings.epoch_scale

    @functools.cached_property
    def factors(self) -> dict[str, float]:
        """How much each given correction favours the rarest class over the most frequent one."""
        effects = {
            "presented": self.growth,
            "weights": self.weights,
            "alpha": self.alpha,
            "offset": np.exp(-self.offset),
            "posthoc_offset": np.exp(-self.posthoc_offset),
        }
        odds = {name: -self._log_odds(effects[name]) for name in VECTORS if name in self.given}
        with np.errstate(over="ignore"):
            return {"sampler" if name == "presented" else name: float(np.exp(x)) for name, x in odds.items()}

    @functools.cached_property
    def findings(self) -> tuple[Finding, ...]:
        """(level, text) of every rule that fires; levels are warning and error."""
        found = [finding for rule in RULES for finding in rule(self)]
        return tuple(("error", text) for _, text in found) if self.settings.strict else tuple(found)

    @property
    def errors(self) -> list[str]:
        """Texts of the findings that must stop a run."""
        return [text for level, text in self.findings if level == "error"]

    def require(self) -> None:
        """Raise ValueError with every error found."""
        if self.errors:
            raise ValueError("; ".join(self.errors))

    def lines(self) -> list[str]:
        """Return the console block: the corrections, their strength, and the findings."""
        words = self.settings
        loss = words.loss if words.weights == "none" else f"{words.loss} x weights({words.weights})"
        head = f"balance  {loss}   sampler {words.sampler}   effective prior {self._brief(self.effective)}"
        factors = " ".join(f"{name} x{value:.3g}" for name, value in self.factors.items()) or "none"
        strength = "-" if self.strength is None else f"{self.strength:.2f}"
        detail = (
            f"         natural prior {self._brief(self.statistics.prior)}   ratio {self.ratio:.1f}   "
            f"corrections {factors}   strength {strength}   repeats {self.repeats:.1f}"
        )
        return [head, detail, *(f"{level:8s} {text}" for level, text in self.findings)]

    def table(self) -> list[str]:
        """Return a head and one row per class with every correction and both priors."""
        statistics = self.statistics
        columns = {
            "share": statistics.prior,
            "presented": self.presented,
            "weight": self.weights,
            "alpha": self.alpha,
            "offset": self.offset + self.posthoc_offset,
            "weighted": self.weighted,
            "effective": self.effective,
        }
        names = statistics.names or ("",) * statistics.num_classes
        head = f"{'id':>4} {'name':16} {statistics.unit + 's':>15} " + " ".join(f"{c:>9}" for c in columns)
        rows = [
            f"{index:4d} {name:16} {int(statistics.counts[index]):15d} "
            + " ".join(f"{column[index]:9.4g}" for column in columns.values())
            for index, name in enumerate(names)
        ]
        return [head, *rows]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; numbers that are not finite become None."""
        statistics = self.statistics
        return {
            "statistics_sha256": statistics.sha256,
            "counts": statistics.counts.tolist(),
            "names": None if statistics.names is None else list(statistics.names),
            "unit": statistics.unit,
            "ratio": self.ratio,
            "natural": statistics.prior.tolist(),
            **{name: getattr(self, name).tolist() for name in VECTORS},
            "weighted": self.weighted.tolist(),
            "effective": self.effective.tolist(),
            "strength": None if self.strength is None else _finite(self.strength),
            "inversion": None if self.inversion is None else _finite(self.inversion),
            "repeats": self.repeats,
            "repeated_class": self.repeated_class,
            "factors": {name: _finite(value) for name, value in self.factors.items()},
            "loss": self.settings.loss,
            "strategy": self.settings.weights,
            "sampler": self.settings.sampler,
            "findings": [list(finding) for finding in self.findings],
        }

    def _log_odds(self, shares: Shares) -> float:
        top, bottom = shares[self.statistics.majority], shares[self.statistics.minority]
        if top == bottom:
            return 0.0
        with np.errstate(divide="ignore"):
            return float(np.log(top) - np.log(bottom))

    def _brief(self, shares: Shares) -> str:
        if len(shares) <= CLASSES_PER_LINE:
            return " ".join(map(_share, shares.tolist()))
        top, bottom = shares[self.statistics.majority], shares[self.statistics.minority]
        return f"{_share(float(top))} (most frequent) {_share(float(bottom))} (rarest)"


def balance_budget(
    statistics: ClassStatistics,
    presented: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    alpha: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    posthoc_offset: ArrayLike | None = None,
    *,
    settings: BudgetSettings | None = None,
) -> BalanceBudget:
    """Multiply all corrections out; None means that one is off.

    With pi the natural shares: q_c ~ presented_c w_c alpha_c; e_c ~ q_c exp(-o_c), o = offset (added to the
    logits in training, tau log prior) + posthoc_offset (taken off them in prediction); over the most
    frequent and the rarest class rho = 1 - log(e_maj / e_min) / log(pi_maj / pi_min). `alpha` [K] multiplies
    the loss per class; a scalar is the alpha of a sigmoid focal loss, which enters with two classes as (1 -
    alpha, alpha), class 1 being the positive one, and cancels out with more. ValueError when a vector does
    not fit the statistics; what is merely unwise is a finding.
    """
    values = dict(zip(VECTORS, (presented, weights, alpha, offset, posthoc_offset)))
    sigmoid_alpha = None
    if alpha is not None and np.ndim(alpha) == 0:
        sigmoid_alpha = float(np.asarray(alpha))
        alpha = _two_class_alpha(statistics, sigmoid_alpha)
    ones = np.ones(statistics.num_classes)
    return BalanceBudget(
        statistics=statistics,
        presented=statistics.prior if presented is None else check_shares(statistics, presented),
        weights=ones if weights is None else check_weights(statistics, weights),
        alpha=ones if alpha is None else check_weights(statistics, alpha, "alpha"),
        offset=_offset(statistics, offset, "offset"),
        posthoc_offset=_offset(statistics, posthoc_offset, "posthoc_offset"),
        given=frozenset(name for name, value in values.items() if value is not None),
        sigmoid_alpha=sigmoid_alpha,
        settings=settings or BudgetSettings(),
    )


def _two_class_alpha(statistics: ClassStatistics, alpha: float) -> Shares:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}: a scalar must lie in 0..1")
    return np.array([1 - alpha, alpha]) if statistics.num_classes == 2 else np.ones(statistics.num_classes)


def _offset(statistics: ClassStatistics, values: ArrayLike | None, argument: str) -> NDArray[np.float64]:
    if values is None:
        return np.zeros(statistics.num_classes)
    offset = np.asarray(values, dtype=np.float64)
    if offset.shape != (statistics.num_classes,) or not np.isfinite(offset).all():
        raise ValueError(f"{argument} must be {statistics.num_classes} finite numbers, not {offset}")
    return offset


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _share(value: float) -> str:
    if value == 0 or value >= 0.995:
        return f"{value:.2f}"
    return (f"{value:.2f}" if value >= 0.01 else f"{value:.2g}").removeprefix("0")
