import json
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from common.metrics.calibration import (
    Calibration,
    Temperature,
    expected_calibration_error,
    fit_temperature,
)


def problem(seed: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return logits [N, K, T] and labels drawn from their softmax, so that a larger `scale` is too sure."""
    generator = torch.Generator().manual_seed(seed)
    classes = 2 + seed % 4
    logits = torch.randn(30, classes, 10, dtype=torch.float64, generator=generator)
    flat = logits.softmax(1).movedim(1, -1).reshape(-1, classes)
    target = torch.multinomial(flat, 1, generator=generator).view(30, 10)
    return scale * logits, target


def test_golden_value() -> None:
    confidence = torch.tensor([0.95, 0.85, 0.75, 0.65, 0.55, 0.9], dtype=torch.float64)
    correct = torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.325, abs=1e-12)
    assert math.isnan(expected_calibration_error(confidence[:0], correct[:0]))


def test_bins_by_hand() -> None:
    """Bins [0, .5) and [.5, 1]: gaps |.4 - 0| and |.5 + .7 + 1 - 2| over four predictions."""
    confidence = torch.tensor([0.4, 0.5, 0.7, 1.0], dtype=torch.float64)
    correct = torch.tensor([False, False, True, True])
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(0.6 / 4)
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0.6 / 4)
    assert expected_calibration_error(confidence, correct, bins=4) == pytest.approx((0.4 + 0.2) / 4)


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_oracles(seed: int) -> None:
    logits, target = problem(seed)
    classes = logits.shape[1]
    metric = Calibration(classes)
    metric.update(logits, target)
    report = metric.compute()
    p = logits.softmax(1).movedim(1, -1).reshape(-1, classes)
    truth = target.flatten()
    oracle = multiclass_calibration_error(p, truth, num_classes=classes, n_bins=15, norm="l1")
    assert report.ece == pytest.approx(float(oracle), abs=1e-6)
    confidence, predicted = p.max(1)
    assert report.ece == pytest.approx(binned_gap(confidence, predicted == truth), abs=1e-12)
    for c in range(classes):
        gap = binned_gap(p[:, c], truth == c)
        assert report.class_ece[c] == pytest.approx(gap, abs=1e-12)
    assert report.mean_class_ece == pytest.approx(report.class_ece.mean())
    hot = np.eye(classes)[truth]
    assert report.brier == pytest.approx(((p.numpy() - hot) ** 2).sum(1).mean(), rel=1e-12)
    assert report.nll == pytest.approx(log_loss(truth, p, labels=range(classes)), rel=1e-9)
    assert report.samples == len(truth)
    assert report.reliability[:, 2].sum() == len(truth)


def binned_gap(p: Tensor, truth: Tensor) -> float:
    """Return the calibration error, bin by bin; torchmetrics gives it in float32 only."""
    index = np.minimum(np.floor(p.numpy() * 15), 14)
    gaps = [abs(float((p - truth.double())[index == b].sum())) for b in range(15)]
    return sum(gaps) / len(p)


def test_a_class_of_two_agrees_with_the_binary_oracle() -> None:
    p = torch.linspace(0.5, 0.99, 50, dtype=torch.float64)
    truth = torch.arange(50) % 3 > 0
    oracle = binary_calibration_error(p, truth.long(), n_bins=15, norm="l1")
    assert expected_calibration_error(p, truth) == pytest.approx(float(oracle), abs=1e-6)


def test_any_split_and_ignored_elements() -> None:
    logits, target = problem(3)
    whole, first, second, removed = (Calibration(5, ignore_index=-1) for _ in range(4))
    whole.update(logits, target)
    first.update(logits[:10], target[:10])
    second.update(logits[10:], target[10:])
    reloaded = Calibration(5, ignore_index=-1)
    reloaded.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    reloaded.merge(second)
    for state, expected in zip(reloaded.states(), whole.states()):
        torch.testing.assert_close(state, expected, rtol=1e-12, atol=1e-12)
    marked, broken = target.clone(), logits.clone()
    marked[10:], broken[10:] = -1, float("nan")
    removed.update(broken, marked)
    assert removed.compute().ece == pytest.approx(first.compute().ece, rel=1e-12)
    removed.reset()
    removed.update(broken, target, valid=marked >= 0)
    assert removed.compute().nll == pytest.approx(first.compute().nll, rel=1e-12)
    assert math.isnan(Calibration(3).compute().ece)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
def test_temperature_is_the_least_likelihood_loss(seed: int, scale: float) -> None:
    logits, target = problem(seed, scale)
    rows, labels = logits.movedim(1, -1).reshape(target.numel(), -1), target.flatten()

    def nll(t: float) -> float:
        return float(torch.nn.functional.cross_entropy(rows / t, labels))

    best = minimize_scalar(nll, bounds=(0.05, 50), method="bounded", options={"xatol": 1e-10})
    with torch.no_grad():
        found = fit_temperature(logits, target, split="valid")
    assert found.value == pytest.approx(best.x, rel=1e-5)
    assert found.value == pytest.approx(scale, rel=0.35)
    assert found.nll_after == pytest.approx(best.fun, rel=1e-9)
    assert found.nll_before == pytest.approx(nll(1.0))
    assert found.nll_after <= found.nll_before
    calibrated = found.apply(logits)
    assert torch.equal(calibrated.argmax(1), logits.argmax(1))
    before, after = Calibration(rows.shape[1]), Calibration(rows.shape[1])
    before.update(logits, target)
    after.update(calibrated, target)
    if scale == 6:
        assert after.compute().ece < before.compute().ece / 2
    assert Temperature.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.split == "valid"


def test_temperature_leaves_out_what_is_ignored_and_stays_bounded() -> None:
    logits, target = problem(2)
    marked = target.clone()
    marked[::2] = -100
    expected = fit_temperature(logits[1::2], target[1::2], split="valid")
    assert fit_temperature(logits, marked, split="valid").value == expected.value
    assert fit_temperature(logits, target, split="valid", valid=marked >= 0).value == expected.value
    right = 5 * torch.eye(3)
    assert fit_temperature(right, torch.arange(3), split="valid").value == pytest.approx(0.01)
    wrong = fit_temperature(-right, torch.arange(3), split="valid")
    assert wrong.value == pytest.approx(100)
    single = fit_temperature(logits.float(), target, split="valid")
    assert single.value == pytest.approx(fit_temperature(logits, target, split="valid").value, rel=1e-5)


def test_bad_input_is_named() -> None:
    logits, target = problem(1)
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_temperature(logits, torch.full_like(target, -100), split="valid")
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature(logits - float("inf"), target, split="valid")
    with pytest.raises(ValueError, match="NaN or inf"):
        Calibration(3).update(logits * float("nan"), target)
    with pytest.raises(ValueError, match="do not fit"):
        Calibration(4).update(logits, target)
    with pytest.raises(ValueError, match="do not fit"):
        Calibration(3).update(logits, target.float())
    with pytest.raises(ValueError, match="target holds 9"):
        Calibration(3).update(logits, torch.full_like(target, 9))
    with pytest.raises(ValueError, match="valid is"):
        Calibration(3).update(logits, target, target[:1] > 0)
    with pytest.raises(ValueError, match=r"\[B, K, \*\] is expected"):
        fit_temperature(target[0], target[0], split="valid")
    with pytest.raises(ValueError, match="at least 1"):
        Calibration(3, bins=0)
    with pytest.raises(ValueError, match="settings differ"):
        Calibration(3).merge(Calibration(4))
