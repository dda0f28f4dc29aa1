import json
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor

from common.metrics.ranking import ScoreHistogram, Threshold, average_precision, best_f1_threshold

LABELS = np.array([1, 0, 1, 0, 0])
TIED, APART = np.array([0.9, 0.8, 0.7, 0.7, 0.1]), np.array([0.9, 0.8, 0.7, 0.6, 0.1])


def problem(seed: int, count: int = 400) -> tuple[Tensor, Tensor]:
    """Return logits [N, K] and labels; the last class never occurs."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(4, (count,), generator=generator) % 3
    logits = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    return logits + 1.5 * torch.nn.functional.one_hot(target, 4), target


def test_golden_values() -> None:
    assert average_precision(TIED, LABELS) == pytest.approx(0.75)
    assert average_precision(APART, LABELS) == pytest.approx(0.833333, abs=5e-7)


@pytest.mark.parametrize("seed", range(30))
def test_equals_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.random(80) < generator.uniform(0.05, 0.9)
    positive[0] = True
    scores = np.round(generator.normal(positive, 1.0), int(generator.integers(0, 4)))
    expected = average_precision_score(positive, scores)
    assert average_precision(scores, positive) == pytest.approx(expected, abs=1e-12)
    found = best_f1_threshold(torch.from_numpy(scores), torch.from_numpy(positive), split="valid")
    every = {float(t): f1_score(positive, scores >= t) for t in np.unique(scores)}
    assert found.f1 == pytest.approx(max(every.values()), abs=1e-12)
    assert found.value == max(t for t, f1 in every.items() if f1 > found.f1 - 1e-12)
    assert Threshold.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_order_of_equal_scores_does_not_matter() -> None:
    for order in ([0, 1, 2, 3, 4], [0, 1, 3, 2, 4]):
        assert average_precision(TIED[order], LABELS[order]) == pytest.approx(0.75)


def test_without_a_positive_it_is_undefined() -> None:
    assert math.isnan(average_precision(TIED, LABELS * 0))
    assert math.isnan(average_precision(TIED[:0], LABELS[:0]))
    nothing = best_f1_threshold(TIED, LABELS * 0, split="valid")
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.f1)
    assert average_precision(TIED, LABELS * 0 + 1) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bins", [16, 4096])
def test_a_histogram_bounds_the_exact_value(seed: int, bins: int) -> None:
    logits, target = problem(seed)
    metric = ScoreHistogram(4, bins=bins)
    metric.update(logits, target)
    report = metric.compute()
    p = logits.softmax(1)
    for c in range(3):
        exact = average_precision_score(target == c, p[:, c])
        assert report.low[c] <= exact + 1e-12
        assert exact <= report.high[c] + 1e-12
        assert report.low[c] <= report.average_precision[c] <= report.high[c]
        if bins == 4096:
            assert report.average_precision[c] == pytest.approx(exact, abs=2e-3)
            assert report.high[c] - report.low[c] < 0.05
    assert math.isnan(report.average_precision[3])
    assert report.mean == pytest.approx(report.average_precision[:3].mean())


def test_a_histogram_groups_what_shares_a_bin() -> None:
    """Log odds .6, .6 and -1.4 of two classes in four bins of width 8: the first two rank as one."""
    logits = torch.tensor([[0.6, 0.0], [0.6, 0.0], [-1.4, 0.0], [-20.0, 20.0]])
    metric = ScoreHistogram(2, bins=4)
    metric.update(logits, torch.tensor([0, 1, 0, 1]))
    assert metric.states()[0][0].tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]
    report = metric.compute()
    assert report.average_precision[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert report.low[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert report.high[0] == pytest.approx((1 + 2 / 3) / 2)


def test_thresholds_are_close_to_the_best_of_all() -> None:
    logits, target = problem(9)
    metric = ScoreHistogram(4)
    metric.update(logits, target)
    p = logits.softmax(1)
    for c, threshold in enumerate(metric.thresholds(split="valid")[:3]):
        best = best_f1_threshold(p[:, c], target == c, split="valid")
        assert threshold.f1 == pytest.approx(best.f1, abs=0.01)
        assert f1_score(target == c, p[:, c] >= threshold.value) == pytest.approx(threshold.f1)
        assert threshold.split == "valid"
    assert math.isnan(metric.thresholds(split="valid")[3].value)
    certain = ScoreHistogram(2)
    certain.update(torch.tensor([[-900.0, 900.0]]), torch.tensor([0]))
    assert certain.thresholds(split="valid")[0] == Threshold(0.0, 1.0, "valid")


def test_any_split_extremes_and_ignored_elements() -> None:
    logits, target = problem(4)
    logits[0], logits[1, 2] = 1e30, -float("inf")
    whole, first, second = (ScoreHistogram(4, ignore_index=-1) for _ in range(3))
    whole.update(logits, target)
    first.update(logits[:150], target[:150])
    marked = target.clone()
    marked[:150] = -1
    second.update(torch.where(marked.unsqueeze(1) < 0, float("nan"), logits), marked)
    reloaded = ScoreHistogram(4, ignore_index=-1)
    reloaded.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    reloaded.merge(second)
    assert torch.equal(reloaded.states()[0], whole.states()[0])
    assert whole.states()[0].sum() == 4 * len(target)
    volume = ScoreHistogram(4, ignore_index=-1)
    volume.update(logits.view(20, 20, 4).movedim(-1, 1), target.view(20, 20))
    assert torch.equal(volume.states()[0], whole.states()[0])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"both are \[N\]"):
        average_precision(TIED, LABELS[:3])
    with pytest.raises(ValueError, match="NaN"):
        average_precision(TIED * np.nan, LABELS)
    with pytest.raises(ValueError, match="other values than 0 and 1"):
        best_f1_threshold(TIED, LABELS * 2, split="valid")
    with pytest.raises(ValueError, match="at least 2"):
        ScoreHistogram(1)
    with pytest.raises(ValueError, match="target holds 5"):
        ScoreHistogram(3).update(torch.zeros(1, 3), torch.tensor([5]))
    with pytest.raises(ValueError, match="settings differ"):
        ScoreHistogram(3).merge(ScoreHistogram(3, bins=8))
