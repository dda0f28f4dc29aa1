"""Losses, forward and backward, against torch's cross-entropy and against the same maths elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from timing import Action, Budget, Entry, Row, Settings, at_least, at_most, interleave, missing, ratio
from torch import Tensor

from common.losses import (
    balanced_focal_loss,
    dice_loss,
    focal_loss,
    logit_adjusted_cross_entropy,
    lovasz_softmax_loss,
    sigmoid_focal_loss,
    tversky_loss,
)
from common.losses.cross_entropy import cross_entropy

GAMMA = 2.0
SIZES = {4: (6, 512, 512), 19: (4, 512, 512)}
SMALL = (1, 64, 64)
SHORT = {"segmentation_models_pytorch": "smp"}

LossFunction = Callable[[Tensor, Tensor], Tensor]


def problem(num_classes: int, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return logits [B, K, H, W] that ask for a gradient, and labels [B, H, W] of all classes."""
    batch, height, width = SMALL if settings.small else SIZES[num_classes]
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(batch, num_classes, height, width, generator=generator)
    target = torch.randint(num_classes, (batch, height, width), generator=generator)
    return logits.requires_grad_(), target


def weights(num_classes: int) -> Tensor:
    """Return class weights far from equal."""
    return torch.logspace(1, -1, num_classes)


def step(loss: LossFunction, logits: Tensor, target: Tensor) -> Action:
    """Return what runs `loss` forward and backward."""

    def action() -> None:
        logits.grad = None
        loss(logits, target).backward()  # type: ignore[no-untyped-call]

    return action


def against_cross_entropy(settings: Settings) -> Iterator[Row]:
    """Every loss over torch's weighted cross-entropy, with 4 classes and with 19."""
    for num_classes in SIZES:
        logits, target = problem(num_classes, settings)
        reference = partial(F.cross_entropy, weight=weights(num_classes))
        losses = {name: make(num_classes) for name, (make, _) in COSTS.items()}
        actions = {name: step(loss, logits, target) for name, loss in losses.items()}
        seconds = interleave({"torch": step(reference, logits, target), **actions}, settings)
        for name, (_, budget) in COSTS.items():
            limit = budget if name != "lovasz" or num_classes == 4 else None
            what = f"{name} / cross-entropy, K {num_classes}"
            yield ratio(what, seconds, name, "torch", limit, note=f"{target.numel() / 1e6:.2f} Mpx")


def _focal(num_classes: int) -> LossFunction:
    return partial(balanced_focal_loss, alpha=weights(num_classes), gamma=GAMMA)


def _logit_adjusted(num_classes: int) -> LossFunction:
    prior = weights(num_classes).log()
    return partial(logit_adjusted_cross_entropy, log_prior=prior, weight=weights(num_classes))


def _smoothing(num_classes: int) -> LossFunction:
    return partial(cross_entropy, weight=weights(num_classes), label_smoothing=0.1)


COSTS: dict[str, tuple[Callable[[int], LossFunction], Budget]] = {
    "focal": (_focal, at_most(2.2)),
    "logit_adjusted": (_logit_adjusted, at_most(2.2)),
    "smoothing": (_smoothing, at_most(2.2)),
    "dice": (lambda _: dice_loss, at_most(2)),
    "tversky": (lambda _: partial(tversky_loss, alpha=0.3, beta=0.7), at_most(2)),
    "lovasz": (lambda _: lovasz_softmax_loss, at_most(15)),
}


def against_peers(settings: Settings) -> Iterator[Row]:
    """Focal and Lovasz losses against packages that compute the same number."""
    logits, target = problem(4, settings)
    for package, name, ours, theirs, budget in _peers():
        what = f"{name}: {SHORT.get(package, package)} / ours"
        if reason := missing(package):
            yield Row(what=what, unit="x", budget=budget, skipped=reason)
            continue
        other = theirs()
        torch.testing.assert_close(ours(logits, target), other(logits, target), rtol=1e-4, atol=1e-5)
        actions = {"theirs": step(other, logits, target), "ours": step(ours, logits, target)}
        yield ratio(what, interleave(actions, settings), "theirs", "ours", budget)


def _peers() -> Iterator[tuple[str, str, LossFunction, Callable[[], LossFunction], Budget]]:
    """Yield package, loss, our form of it, what imports theirs, and the budget."""
    smp, monai = "segmentation_models_pytorch", "monai"
    yield "kornia", "focal", _mean_over_classes, _kornia_focal, at_least(2.5)
    yield monai, "focal", _mean_over_classes, _monai_focal, at_least(1.2)
    yield smp, "one-vs-rest focal", _one_vs_rest_focal, _smp_focal, at_least(1.5)
    per_image = partial(lovasz_softmax_loss, per_image=True, classes="all")
    yield "kornia", "lovasz per image", per_image, _kornia_lovasz, at_least(1.8)
    yield smp, "lovasz", lovasz_softmax_loss, _smp_lovasz, at_least(1.8)


def _mean_over_classes(logits: Tensor, target: Tensor) -> Tensor:
    return focal_loss(logits, target, gamma=GAMMA, reduction="valid_mean") / logits.shape[1]


def _one_vs_rest_focal(logits: Tensor, target: Tensor) -> Tensor:
    hot = logits.new_zeros(logits.shape).scatter_(1, target.unsqueeze(1), 1)
    return sigmoid_focal_loss(logits, hot, alpha=None, gamma=GAMMA)


def _kornia_focal() -> LossFunction:
    from kornia.losses import focal_loss as theirs  # type: ignore[import-not-found]

    return partial(theirs, alpha=None, gamma=GAMMA, reduction="mean")


def _monai_focal() -> LossFunction:
    from monai.losses import FocalLoss  # type: ignore[import-not-found]

    theirs = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=GAMMA)
    return lambda logits, target: theirs(logits, target.unsqueeze(1))


def _smp_focal() -> LossFunction:
    from segmentation_models_pytorch.losses import FocalLoss  # type: ignore[import-not-found]

    theirs: LossFunction = FocalLoss(mode="multiclass", gamma=GAMMA)
    return theirs


def _kornia_lovasz() -> LossFunction:
    from kornia.losses import lovasz_softmax_loss

    theirs: LossFunction = lovasz_softmax_loss
    return theirs


def _smp_lovasz() -> LossFunction:
    from segmentation_models_pytorch.losses import LovaszLoss

    theirs: LossFunction = LovaszLoss(mode="multiclass")
    return theirs


ENTRIES: dict[str, Entry] = {"cross_entropy": against_cross_entropy, "peers": against_peers}
