import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.segmentation import dice_score

from common.losses.overlap import (
    DiceLoss,
    TverskyLoss,
    dice_loss,
    focal_tversky_loss,
    jaccard_loss,
    tversky_loss,
)

P = torch.tensor(
    [[0.7, 0.2, 0.1, 0.6, 0.3, 0.1], [0.2, 0.7, 0.3, 0.3, 0.3, 0.1], [0.1, 0.1, 0.6, 0.1, 0.4, 0.8]],
    dtype=torch.float64,
).unsqueeze(0)
Y = torch.tensor([[0, 1, 1, 0, 255, 2]])
GIVEN = {"activation": None, "ignore_index": 255}
Z4 = torch.tensor(
    [[2, 0, -1, 0.5], [0, 3, 0, 0], [1, 1, 1, 1], [-2, 0, 0, 4], [5, 0, 0, 0]], dtype=torch.float64
)
Y4 = torch.tensor([0, 0, 2, 3, 1])
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def close(value: Tensor, expected: float, digits: int = 9) -> None:
    assert value.item() == pytest.approx(expected, abs=0.5 * 10**-digits)


def random_batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch, classes, *space = (int(n) for n in torch.randint(2, 6, (2 + seed % 4,), generator=generator))
    logits = 2 * torch.randn(batch, classes, *space, dtype=torch.float64, generator=generator)
    return logits, torch.randint(classes, (batch, *space), generator=generator)


def test_golden_values() -> None:
    close(dice_loss(P, Y, smooth=0, **GIVEN), 0.383049716)
    close(dice_loss(P, Y, smooth=1, **GIVEN), 0.293055312)
    close(jaccard_loss(P, Y, smooth=0, **GIVEN), 0.550888439)
    close(tversky_loss(P, Y, alpha=0.3, beta=0.7, smooth=0, **GIVEN), 0.375433270)
    close(focal_tversky_loss(P, Y, alpha=0.3, beta=0.7, smooth=0, **GIVEN), 0.478286877)


def test_landing_dice() -> None:
    for entry, expected in enumerate([0.621967, 0.994104, 0.630424, 0.204899]):
        close(dice_loss(Z4, Y4, smooth=1e-6, classes=(entry,)), expected, 6)
    close(dice_loss(Z4, Y4, smooth=1e-6), 0.612848, 6)
    close(dice_loss(Z4, torch.tensor([0, 0, 2, 3, 255]), smooth=1e-6, ignore_index=255), 0.443342, 6)


@pytest.mark.parametrize(("p", "expected"), [(0.0, 0.5), (0.5, 0.996109), (1.0, 0.997076)])
def test_one_cell_in_a_frame(p: float, expected: float) -> None:
    target = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    target[..., 16, 16] = 1
    close(dice_loss(torch.full_like(target, p), target, activation=None, classes="all"), expected, 6)


def expected_tversky(p: Tensor, hot: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    """Return the loss over dimension 0 of p and hot [N, K], mean over classes that occur."""
    tp, fp, fn = (p * hot).sum(0), (p * (1 - hot)).sum(0), ((1 - p) * hot).sum(0)
    loss = 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)
    return loss[hot.sum(0) > 0].mean()


@pytest.mark.parametrize("seed", range(200))
def test_equals_the_formula_on_random_shapes(seed: int) -> None:
    logits, target = random_batch(seed)
    hot = F.one_hot(target, logits.shape[1]).double()
    p = logits.softmax(1).movedim(1, -1)
    alpha, beta, smooth = 0.1 + 0.2 * (seed % 4), 0.9 - 0.2 * (seed % 3), float(seed % 2)
    whole = expected_tversky(p.flatten(0, -2), hot.flatten(0, -2), alpha, beta, smooth)
    found = tversky_loss(logits, target, alpha=alpha, beta=beta, smooth=smooth)
    torch.testing.assert_close(found, whole, **TIGHT)
    images = [
        expected_tversky(a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1]), alpha, beta, smooth)
        for a, b in zip(p, hot)
    ]
    found = tversky_loss(logits, target, alpha=alpha, beta=beta, smooth=smooth, scope="image")
    torch.testing.assert_close(found, torch.stack(images).mean(), **TIGHT)


def test_hard_predictions_give_the_dice_score_of_torchmetrics() -> None:
    target, guess = torch.randint(3, (2, 8, 8)), torch.randint(3, (2, 8, 8))
    score = dice_score(guess, target, num_classes=3, input_format="index", average="macro")
    hot = F.one_hot(guess, 3).movedim(-1, 1).double()
    found = dice_loss(hot, target, smooth=0, activation=None, scope="image", classes="all")
    assert found.item() == pytest.approx(1 - score.mean().item(), abs=1e-6)


def test_dice_and_jaccard_are_settings() -> None:
    torch.testing.assert_close(
        dice_loss(Z4, Y4, smooth=0.6), tversky_loss(Z4, Y4, alpha=0.5, beta=0.5, smooth=0.3), **TIGHT
    )
    torch.testing.assert_close(
        jaccard_loss(Z4, Y4, smooth=0.6), tversky_loss(Z4, Y4, alpha=1, beta=1, smooth=0.6), **TIGHT
    )
    torch.testing.assert_close(
        focal_tversky_loss(Z4, Y4, exponent=1, alpha=0.3), tversky_loss(Z4, Y4, alpha=0.3), **TIGHT
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
@pytest.mark.parametrize("scope", ["batch", "image"])
def test_hard_labels_equal_one_hot_maps(activation: str | None, scope: str) -> None:
    logits, target = random_batch(7)
    logits = logits.sigmoid() if activation is None else logits
    target.view(-1)[0] = -100
    keep = target != -100
    maps = F.one_hot(target.clamp(min=0), logits.shape[1]).movedim(-1, 1).double()
    ignored = torch.where(keep.unsqueeze(1), maps, -100)
    for part in (maps, ignored):
        grads = []
        for labels, valid in ((target, None), (part, keep)):
            z = logits.clone().requires_grad_()
            loss = tversky_loss(z, labels, alpha=0.2, activation=activation, scope=scope, valid=valid)
            grads.append((loss, *torch.autograd.grad(loss, z)))
        torch.testing.assert_close(grads[0], grads[1], **TIGHT)
    assert TverskyLoss().normalizer(ignored) == len(target)


def test_false_negatives_and_false_positives() -> None:
    """Class 1 is missed where it stands (false negative) or claimed where it does not (false positive)."""
    target = torch.tensor([[1, 1, 0, 0]])
    sure = 6.0 * F.one_hot(target, 2).movedim(-1, 1).double()
    missed, claimed = sure.clone(), sure.clone()
    missed[0, :, 0] = torch.tensor([6.0, 0])
    claimed[0, :, 2] = torch.tensor([0, 6.0])
    only = {"classes": (1,), "alpha": 0.3}
    rise = [
        tversky_loss(z, target, beta=0.9, **only) - tversky_loss(z, target, beta=0.3, **only)
        for z in (missed, claimed)
    ]
    assert rise[0] > 10 * rise[1] > 0
    only = {"classes": (1,), "beta": 0.3}
    rise = [
        tversky_loss(z, target, alpha=0.9, **only) - tversky_loss(z, target, alpha=0.3, **only)
        for z in (missed, claimed)
    ]
    assert rise[1] > 10 * rise[0] > 0


def test_smooth_exponent_weight_and_classes_bite() -> None:
    assert dice_loss(Z4, Y4, smooth=5.0) < dice_loss(Z4, Y4, smooth=0.0)
    values = [focal_tversky_loss(Z4, Y4, exponent=e) for e in (0.5, 0.75, 1, 2)]
    assert values == sorted(values, reverse=True)
    heavy = torch.tensor([1.0, 9, 1, 1])
    assert dice_loss(Z4, Y4, weight=heavy) > dice_loss(Z4, Y4)
    single = [dice_loss(Z4, Y4, classes=(c,)) for c in range(4)]
    weighted = sum(w * v for w, v in zip(heavy, single)) / 12
    torch.testing.assert_close(dice_loss(Z4, Y4, weight=heavy), weighted, **TIGHT)
    torch.testing.assert_close(dice_loss(Z4, Y4, classes=(1, 3)), (single[1] + single[3]) / 2, **TIGHT)


def test_an_absent_class_adds_nothing_unless_asked() -> None:
    target = torch.tensor([0, 0, 2, 3, 0])
    present = dice_loss(Z4, target, smooth=0)
    torch.testing.assert_close(present, dice_loss(Z4, target, smooth=0, classes=(0, 2, 3)), **TIGHT)
    torch.testing.assert_close(dice_loss(Z4, target, smooth=0, classes="all"), (3 * present + 1) / 4, **TIGHT)


def test_perfect_and_empty_predictions_are_finite() -> None:
    perfect = F.one_hot(Y4, 4).double().requires_grad_()
    loss = focal_tversky_loss(perfect, Y4, smooth=0, activation=None)
    loss.backward()
    assert loss.item() == pytest.approx(1e-7**0.75)
    assert perfect.grad.isfinite().all()
    nothing = torch.zeros(1, 2, 4, requires_grad=True)
    loss = tversky_loss(nothing, torch.zeros(1, 4).long(), smooth=0, alpha=0, activation=None, classes="all")
    loss.backward()
    assert nothing.grad.isfinite().all()
    assert loss == 0.5


def test_gradients() -> None:
    logits, target = random_batch(5)
    target.view(-1)[1] = -100
    for scope in ("batch", "image"):
        for classes in ("present", "all"):
            torch.autograd.gradcheck(
                lambda z, s=scope, c=classes: focal_tversky_loss(z, target, alpha=0.3, scope=s, classes=c),
                logits.clone().requires_grad_(),
            )
    maps = torch.rand_like(logits)
    torch.autograd.gradcheck(
        lambda z: tversky_loss(z, maps, activation="sigmoid", weight=torch.arange(logits.shape[1])),
        logits.clone().requires_grad_(),
    )
    extreme = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    dice_loss(extreme, torch.tensor([0, 0])).backward()
    assert extreme.grad.isfinite().all()
    mild = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    dice_loss(mild, torch.tensor([0, 0])).backward()
    assert (mild.grad[:, 0] < 0).all()
    assert (mild.grad[:, 1] > 0).all()


def test_large_sums_keep_their_precision() -> None:
    target = torch.zeros(1, 1024, 1024, dtype=torch.long)
    logits = torch.full((1, 2, 1024, 1024), 0.0)
    logits[:, 0] = 0.2
    expected = dice_loss(logits[..., :1, :1].double(), target[..., :1, :1], smooth=0)
    assert dice_loss(logits, target, smooth=0).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, "alpha is -1"),
        ({"smooth": -1.0}, "smooth is -1"),
        ({"exponent": 0.0}, "exponent is 0"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"scope": "pixel"}, "scope is 'pixel'"),
        ({"classes": "some"}, "classes is 'some'"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TverskyLoss(**settings)
    with pytest.raises(ValueError, match=message):
        tversky_loss(Z4, Y4, **settings)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="classes is 9"):
        dice_loss(Z4, Y4, classes=(9,))
    with pytest.raises(ValueError, match="target is"):
        dice_loss(Z4, torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"weight\[0\] is -1"):
        DiceLoss(weight=[-1.0, 1.0])
