import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from common.metrics.keypoints import KeypointError


def random_points(seed: int, count: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return prediction and target [N, T, K, 2], visible [N, T, K] and sizes [N, T, 2]."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(count, 3, 4, 2, generator=generator)
    prediction = target + 0.05 * torch.randn(target.shape, generator=generator)
    visible = torch.rand(count, 3, 4, generator=generator) < 0.6
    size = torch.tensor([[640.0, 480.0], [320.0, 400.0], [100.0, 100.0]]).expand(count, 3, 2)
    return prediction, target, visible, size


def test_golden_value() -> None:
    metric = KeypointError(2, radii=(0.06, 0.3))
    prediction = torch.tensor([[[0.6, 0.5], [0.0, 0.0]]], dtype=torch.float64)
    target = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]], dtype=torch.float64)
    metric.update(prediction, target, torch.tensor([[True, False]]), (640, 480))
    report = metric.compute()
    assert report.mae == pytest.approx(0.05, abs=1e-15)
    assert report.mae_px == pytest.approx(32)
    assert report.keypoint_mae[0] == pytest.approx(0.05)
    assert math.isnan(report.keypoint_mae[1])
    assert report.pck.tolist() == [0, 1]
    assert report.visible.tolist() == [1, 0]
    assert np.isnan(report.keypoint_pck[:, 1]).all()


@pytest.mark.parametrize("seed", range(5))
def test_equals_numpy_and_any_split(seed: int) -> None:
    points = random_points(seed)
    metric, first, second = (KeypointError(4, radii=(0.02, 0.05)) for _ in range(3))
    metric.update(*points)
    prediction, target, visible, size = (part.double().numpy() for part in points)
    seen = visible.astype(bool)
    error = np.abs(prediction - target)
    pixels = error * size[..., None, :]
    report = metric.compute()
    assert report.mae == pytest.approx(error[seen].mean(), rel=1e-12)
    assert report.mae_px == pytest.approx(pixels[seen].mean(), rel=1e-12)
    close = np.hypot(pixels[..., 0], pixels[..., 1]) <= 0.05 * size.max(-1)[..., None]
    assert report.pck[1] == pytest.approx(close[seen].mean(), rel=1e-12)
    for k in range(4):
        chosen = seen[..., k]
        assert report.keypoint_mae[k] == pytest.approx(error[..., k, :][chosen].mean(), rel=1e-12)
        assert report.keypoint_mae_px[k] == pytest.approx(pixels[..., k, :][chosen].mean(), rel=1e-12)
        assert report.keypoint_pck[1, k] == pytest.approx(close[..., k][chosen].mean(), rel=1e-12)
        assert report.visible[k] == chosen.sum()
    for start in range(0, 20, 5):
        (first if start < 10 else second).update(*(part[start : start + 5] for part in points))
    reloaded = KeypointError(4, radii=(0.02, 0.05))
    reloaded.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    reloaded.merge(second)
    for state, expected in zip(reloaded.states(), metric.states()):
        torch.testing.assert_close(state, expected, rtol=1e-12, atol=0)


def test_what_is_not_visible_is_never_read() -> None:
    prediction, target, visible, size = random_points(0)
    expected, metric = KeypointError(4), KeypointError(4)
    expected.update(prediction, target, visible, size)
    hidden = ~visible.unsqueeze(-1)
    metric.update(
        prediction.masked_fill(hidden, float("inf")), target.masked_fill(hidden, float("nan")), visible, size
    )
    assert metric.compute().mae == expected.compute().mae
    assert metric.compute().pck.tolist() == expected.compute().pck.tolist()


def test_nothing_visible_is_undefined() -> None:
    metric = KeypointError(2)
    assert math.isnan(metric.compute().mae)
    metric.update(torch.zeros(3, 2, 2), torch.ones(3, 2, 2), torch.zeros(3, 2, dtype=torch.bool), (10, 10))
    report = metric.compute()
    assert math.isnan(report.mae)
    assert math.isnan(report.mae_px)
    assert np.isnan(report.pck).all()


def test_bad_input_is_named() -> None:
    metric, points, visible = KeypointError(2), torch.zeros(3, 2, 2), torch.ones(3, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"both are \[\*, 2, 2\]"):
        metric.update(points[:, :1], points[:, :1], visible[:, :1], (1, 1))
    with pytest.raises(ValueError, match=r"both are \[\*, 2, 2\]"):
        metric.update(points[:2], points, visible, (1, 1))
    with pytest.raises(ValueError, match=r"bool \[3, 2\] is expected"):
        metric.update(points, points, visible.float(), (1, 1))
    with pytest.raises(ValueError, match="radius is 0"):
        KeypointError(2, radii=(0.0,))
    with pytest.raises(ValueError, match="num_keypoints"):
        KeypointError(0)
    with pytest.raises(ValueError, match="settings differ"):
        metric.merge(KeypointError(3))
