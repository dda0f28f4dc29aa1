"""Parity with public packages that are not needed to run the tests."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.focal import balanced_focal_loss, focal_loss, sigmoid_focal_loss
from common.losses.lovasz import lovasz_softmax_loss
from common.losses.overlap import dice_loss, tversky_loss

pytestmark = pytest.mark.filterwarnings("ignore")  # importing these packages warns of their own dependencies
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SEEDS = range(0, 200, 10)


def problem(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, labels and one-hot labels, [2, K, H, W], every class in every image."""
    generator = torch.Generator().manual_seed(seed)
    classes = 2 + seed // 10 % 4
    logits = 2 * torch.randn(2, classes, 5, 6, generator=generator)
    target = torch.randint(classes, (2, 5, 6), generator=generator)
    target[:, 0, :classes] = torch.arange(classes)
    return logits, target, F.one_hot(target, classes).movedim(-1, 1).float()


def test_the_oracles_of_the_test_environment_are_there() -> None:
    for name in ("torchvision", "sklearn", "torchmetrics"):
        importlib.import_module(name)


@pytest.mark.parametrize("seed", SEEDS)
def test_monai_softmax_focal_is_ours_over_the_classes(seed: int) -> None:
    losses = pytest.importorskip("monai.losses")
    logits, target, hot = problem(seed)
    classes = logits.shape[1]
    theirs = losses.FocalLoss(gamma=2.5, use_softmax=True)(logits, hot)
    torch.testing.assert_close(
        focal_loss(logits, target, gamma=2.5, reduction="valid_mean") / classes, theirs, **CLOSE
    )
    alpha = torch.arange(1.0, classes + 1)
    theirs = losses.FocalLoss(to_onehot_y=True, use_softmax=True, alpha=alpha.tolist())(
        logits, target.unsqueeze(1)
    )
    torch.testing.assert_close(balanced_focal_loss(logits, target, alpha=alpha) / classes, theirs, **CLOSE)
    theirs = losses.FocalLoss(gamma=2.0)(logits, hot)
    torch.testing.assert_close(sigmoid_focal_loss(logits, hot, alpha=None), theirs, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_kornia_focal_is_ours_over_the_classes(seed: int) -> None:
    losses = pytest.importorskip("kornia.losses")
    logits, target, _ = problem(seed)
    theirs = losses.focal_loss(logits, target, alpha=None, gamma=2.0, reduction="mean")
    ours = focal_loss(logits, target, reduction="valid_mean") / logits.shape[1]
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_smp_multiclass_focal_is_sigmoid_focal_on_one_hot(seed: int) -> None:
    losses = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, target, hot = problem(seed)
    theirs = losses.FocalLoss(mode="multiclass", gamma=2.0)(logits, target)
    torch.testing.assert_close(sigmoid_focal_loss(logits, hot, alpha=None), theirs, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_monai_tversky_and_dice(seed: int) -> None:
    losses = pytest.importorskip("monai.losses")
    logits, target, hot = problem(seed)
    theirs = losses.TverskyLoss(softmax=True, alpha=0.3, beta=0.7, smooth_nr=1.0, smooth_dr=1.0)(logits, hot)
    ours = tversky_loss(logits, target, alpha=0.3, beta=0.7, smooth=1.0, scope="image", classes="all")
    torch.testing.assert_close(ours, theirs, **CLOSE)
    theirs = losses.DiceLoss(softmax=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits, hot)
    torch.testing.assert_close(dice_loss(logits, target, classes="all"), theirs, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_smp_lovasz(seed: int) -> None:
    losses = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, target, _ = problem(seed)
    target[0, 1, 1] = 255
    for per_image in (False, True):
        theirs = losses.LovaszLoss("multiclass", per_image=per_image, ignore_index=255, from_logits=True)(
            logits, target
        )
        ours = lovasz_softmax_loss(logits, target, per_image=per_image, ignore_index=255)
        torch.testing.assert_close(ours, theirs, **CLOSE)
