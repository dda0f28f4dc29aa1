"""Whether predicted probabilities can be believed: calibration errors, proper scores, temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.metrics._sums import SummedMetric, class_rows
from common.metrics.report import FloatArray, divide

BINS = 15
LARGEST_TEMPERATURE = 100.0
TOLERANCE = 1e-12  # of log T


def expected_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> float:
    """Return the mean over predictions of |mean confidence - accuracy| of their bin; NaN for none.

    `confidence` [N] in [0, 1] falls into `bins` of equal width, closed below and the last also above;
    `correct` bool [N] says which predictions were right. Empty bins are skipped. Source: Guo et al. 2017,
    equation 3.
    """
    return float(_gap(_binned(confidence.double(), correct, bins)))


def _binned(confidence: Tensor, correct: Tensor, bins: int, keep: Tensor | None = None) -> Tensor:
    """Return the sums of confidence, of `correct` and of ones per bin, float64 [*, bins, 3].

    Both are [N, *] and each column of trailing dimensions has bins of its own; `keep` [N] says what counts.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    index = torch.bucketize(confidence, edges, right=True).clamp(max=bins - 1)
    values = torch.stack([confidence, correct.double(), torch.ones_like(confidence)])
    if keep is not None:
        values = values * keep.view(-1, *[1] * (confidence.dim() - 1))
    sums = values.new_zeros(3, bins, *confidence.shape[1:])
    return sums.scatter_add(1, index.expand_as(values), values).movedim((0, 1), (-1, -2))


def _gap(sums: Tensor) -> FloatArray:
    """Return the calibration error of binned sums [*, bins, 3], [*]."""
    values = sums.cpu().numpy()
    return divide(abs(values[..., 0] - values[..., 1]).sum(-1), values[..., 2].sum(-1))


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """Calibration of a data set of `samples`; NaN without any.

    `ece` is that of the top label, `class_ece` [K] that of each class's probability and `mean_class_ece`
    their mean; `brier` the mean of sum_c (p_c - [y = c])^2, 0 to 2; `nll` the mean of -log p_y in nats.
    `reliability` [bins, 3] holds the sums of confidence, of right predictions and of predictions per bin.
    """

    samples: int
    ece: float
    class_ece: FloatArray
    mean_class_ece: float
    brier: float
    nll: float
    reliability: FloatArray


class Calibration(SummedMetric):
    """Calibration errors, Brier score and negative log-likelihood of softmax(logits).

    Logarithms of probabilities do as logits. `bins` have equal width. Elements whose target is `ignore_index`
    are left out.
    """

    def __init__(self, num_classes: int, *, bins: int = BINS, ignore_index: int = -100) -> None:
        if num_classes < 1 or bins < 1:
            raise ValueError(f"num_classes and bins must be at least 1, not {num_classes} and {bins}")
        self.num_classes = num_classes
        self.bins = bins
        self.ignore_index = ignore_index
        sums = {
            "top": torch.zeros(bins, 3, dtype=torch.float64),
            "classes": torch.zeros(num_classes, bins, 3, dtype=torch.float64),
            "scores": torch.zeros(2, dtype=torch.float64),
        }
        super().__init__({"num_classes": num_classes, "bins": bins, "ignore_index": ignore_index}, sums)

    def update(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Add logits [B, K, *] with labels [B, *]; ValueError for other shapes or stray labels."""
        rows, labels, keep = class_rows(logits, target, self.num_classes, self.ignore_index, valid)
        self._follow(rows.device)
        log_p = rows.log_softmax(dim=1)
        p = log_p.exp()
        confidence, predicted = p.max(dim=1)
        hot = F.one_hot(labels, self.num_classes)
        brier = ((p - hot).square().sum(dim=1) * keep).sum()
        nll = -(log_p.gather(1, labels.unsqueeze(1)).squeeze(1) * keep).sum()
        self._sums["top"] += _binned(confidence, predicted == labels, self.bins, keep)
        self._sums["classes"] += _binned(p, hot, self.bins, keep)
        self._sums["scores"] += torch.stack([brier, nll])

    def compute(self) -> CalibrationReport:
        """Return all errors and scores."""
        top, classes, scores = self._sums["top"], self._sums["classes"], self._sums["scores"]
        samples = top[:, 2].sum().cpu().numpy()
        brier, nll = divide(scores.cpu().numpy(), samples)
        class_ece = _gap(classes)
        return CalibrationReport(
            samples=int(samples),
            ece=float(_gap(top)),
            class_ece=class_ece,
            mean_class_ece=float(class_ece.mean()),
            brier=float(brier),
            nll=float(nll),
            reliability=top.cpu().numpy().copy(),
        )


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by before softmax, and the `split` it was fitted on.

    `nll_before` and `nll_after` are the mean negative log-likelihood there, in nats.
    """

    value: float
    split: str
    nll_before: float
    nll_after: float

    def apply(self, logits: Tensor) -> Tensor:
        """Return logits / T, whose softmax is calibrated and whose argmax is that of `logits`."""
        return logits / self.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Temperature:
        """Restore what `to_dict` returned."""
        return cls(**values)


def fit_temperature(
    logits: Tensor,
    target: Tensor,
    *,
    split: str,
    ignore_index: int = -100,
    valid: Tensor | None = None,
) -> Temperature:
    """Return the T > 0 with the least negative log-likelihood of softmax(logits / T) (Guo et al. 2017).

    `logits` [B, K, *] with labels [B, *] of the split it is named by, never the one it is reported on. Found
    by bisection on log T in float64, within 0.01 to 100: without a wrong prediction the best T would be 0.
    ValueError when no element counts, or a logit is not finite.
    """
    if logits.dim() < 2:
        raise ValueError(f"logits are {list(logits.shape)}: [B, K, *] is expected")
    rows, labels, keep = class_rows(logits, target, logits.shape[1], ignore_index, valid)
    rows, labels = rows[keep], labels[keep]
    if not len(labels):
        raise ValueError("target holds no label: there is nothing to fit a temperature to")
    if not bool(rows.isfinite().all()):
        raise ValueError("logits hold values that are not finite")
    value = _best_temperature(rows, labels)
    before, after = (float(F.cross_entropy(rows / t, labels)) for t in (1.0, value))
    return Temperature(value, split, before, after)


def _best_temperature(rows: Tensor, labels: Tensor) -> float:
    """Return where the slope of the negative log-likelihood over 1 / T, which rises with 1 / T, is 0."""
    low, high = -math.log(LARGEST_TEMPERATURE), math.log(LARGEST_TEMPERATURE)
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        p = (rows / math.exp(middle)).softmax(dim=1)
        slope = (p * rows).sum(dim=1) - rows.gather(1, labels.unsqueeze(1)).squeeze(1)
        if float(slope.sum()) > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
