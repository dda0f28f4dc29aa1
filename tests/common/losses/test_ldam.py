import copy
import logging
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.balancing.weights import ldam_margins
from common.heads import CosineClassifier
from common.losses import ldam as module
from common.losses.ldam import LDAMLoss, check_cosines, ldam_loss

COSINES = torch.tensor(
    [[0.6, 0.1, -0.3], [0.2, 0.4, -0.1], [-0.5, 0, 0.3], [0.7, -0.4, 0.1]], dtype=torch.float64
)
Y = torch.tensor([0, 0, 2, 1])
W = torch.tensor([0.5, 1, 4], dtype=torch.float64)
MARGINS = torch.from_numpy(ldam_margins([100, 10, 1]))
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize(
    ("scale", "max_margin", "expected"),
    [(30, 0.5, 14.545267348), (10, 0.5, 4.898742571), (30, 0, 9.750649928)],
)
def test_golden_values(scale: float, max_margin: float, expected: float) -> None:
    margins = torch.from_numpy(ldam_margins([100, 10, 1], max_margin=max_margin))
    assert ldam_loss(COSINES, Y, margins=margins, scale=scale).item() == pytest.approx(expected, abs=5e-10)


@pytest.mark.parametrize(("label", "expected"), [(0, 15.6434), (1, 2.1861), (2, 33.0001)])
def test_values_by_hand(label: int, expected: float) -> None:
    margins = ldam_margins([2495, 324, 96])
    cosines, target = torch.tensor([[0.2, 0.5, -0.1]], dtype=torch.float64), torch.tensor([label])
    loss = LDAMLoss(margins=margins)
    assert loss(cosines, target).item() == pytest.approx(expected, abs=5e-5)
    loss.eval()
    raw = F.cross_entropy(30 * cosines, target).item()
    assert loss(cosines, target).item() == pytest.approx(raw, rel=1e-12)
    if label == 2:
        assert raw == pytest.approx(18.0001, abs=5e-5)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weight", [None, W])
def test_without_margins_it_is_torch_on_scaled_cosines(reduction: str, weight: Tensor | None) -> None:
    target = torch.tensor([0, -100, 2, 1])
    none = torch.zeros(3, dtype=torch.float64)
    found = ldam_loss(COSINES, target, margins=none, weight=weight, reduction=reduction)
    expected = F.cross_entropy(30 * COSINES, target, weight, reduction=reduction)
    torch.testing.assert_close(found, expected, **TIGHT)
    scaled = ldam_loss(
        30 * COSINES, target, margins=none, weight=weight, reduction=reduction, head_output="scaled"
    )
    torch.testing.assert_close(scaled, expected, **TIGHT)


@pytest.mark.parametrize("seed", range(200))
def test_equals_the_formula_on_random_shapes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch, classes, width = (int(n) for n in torch.randint(2, 7, (3,), generator=generator))
    cosines = 2 * torch.rand(batch, classes, width, dtype=torch.float64, generator=generator) - 1
    target = torch.randint(classes, (batch, width), generator=generator)
    counts = torch.randint(1, 1000, (classes,), generator=generator)
    margins = 0.4 * (counts.min() / counts.double()) ** 0.25
    hot = F.one_hot(target, classes).movedim(-1, 1)
    shifted = (12 * (cosines - hot * margins.view(1, -1, 1))).exp()
    losses = -((shifted * hot).sum(1) / shifted.sum(1)).log()
    weight = torch.rand(classes, dtype=torch.float64, generator=generator) + 0.1
    expected = (losses * weight[target]).sum() / weight[target].sum()
    margins = torch.from_numpy(ldam_margins(counts, max_margin=0.4))
    found = ldam_loss(cosines, target, margins=margins, scale=12, weight=weight)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    found = ldam_loss(12 * cosines, target, margins=margins, scale=12, weight=weight, head_output="scaled")
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_equal_counts_are_a_constant_margin() -> None:
    margins = torch.from_numpy(ldam_margins([7, 7, 7], max_margin=0.3))
    hot = F.one_hot(Y, 3).double()
    expected = F.cross_entropy(30 * (COSINES - 0.3 * hot), Y)
    torch.testing.assert_close(ldam_loss(COSINES, Y, margins=margins), expected, **TIGHT)


def test_margins_scale_and_smoothing_bite() -> None:
    values = [ldam_loss(COSINES, Y, margins=MARGINS * factor) for factor in (0, 0.5, 1, 2)]
    assert values == sorted(values)
    assert len({float(v) for v in values}) == 4
    values = [ldam_loss(COSINES, Y, margins=MARGINS, scale=scale) for scale in (5, 10, 30)]
    assert values == sorted(values)
    wrong, right = torch.tensor([[-0.5, 0.5]]), torch.tensor([[1.0, -1.0]])
    none, target = torch.zeros(2), torch.tensor([0])
    assert ldam_loss(wrong, target, margins=none, label_smoothing=0.2) < ldam_loss(
        wrong, target, margins=none
    )
    assert ldam_loss(right, target, margins=none, label_smoothing=0.2) > ldam_loss(
        right, target, margins=none
    )


def test_a_rare_class_must_win_by_more() -> None:
    """At equal cosines the rarer label costs more; the absent class has no margin at all."""
    margins = torch.from_numpy(ldam_margins([1000, 10, 0]))
    losses = ldam_loss(torch.zeros(3, 3), torch.tensor([0, 1, 2]), margins=margins, reduction="none")
    assert losses[1] > losses[0] > losses[2]
    assert losses[2].item() == pytest.approx(1.0986123)


def test_the_margin_is_for_training_only() -> None:
    loss = LDAMLoss(margins=MARGINS, weight=W, label_smoothing=0.1)
    assert loss(COSINES, Y) > loss.eval()(COSINES, Y)
    torch.testing.assert_close(loss.prediction_logits(COSINES), 30 * COSINES)
    ready = LDAMLoss(margins=MARGINS, head_output="scaled")
    assert torch.equal(ready.prediction_logits(COSINES), COSINES)
    total, count = loss.train().total_and_count(COSINES, Y)
    assert count == 0.5 + 0.5 + 4 + 1
    torch.testing.assert_close(total / count, loss(COSINES, Y))


def test_a_head_without_cosines_is_refused() -> None:
    logits = torch.tensor([[0.2, 1.5, 0.0], [0.1, 0.2, 0.3]])
    with pytest.raises(ValueError, match=r"logits reach 1\.5: this loss needs a cosine head"):
        LDAMLoss(margins=MARGINS)(logits, torch.tensor([0, 1]))
    ignored = LDAMLoss(margins=MARGINS)(logits, torch.tensor([-100, 1]))
    assert ignored == LDAMLoss(margins=MARGINS)(logits[1:], torch.tensor([1]))
    assert LDAMLoss(margins=MARGINS, head_output="scaled")(logits, torch.tensor([0, 1])).isfinite()
    check_cosines(torch.full((1, 3), 1.0009), torch.tensor([True]))
    check_cosines(torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool))


def test_the_first_batch_on_a_device_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "check_cosines", lambda *arguments: calls.append(arguments))

    class Elsewhere:
        device = torch.device("cuda")

    loss = LDAMLoss(margins=MARGINS)
    monkeypatch.setattr(module.Labels, "of", classmethod(lambda cls, *a: module.Labels(Y, Y >= 0, 3)))
    for _ in range(2):
        loss._check_first(Elsewhere(), Y, None)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_gradients() -> None:
    torch.autograd.gradcheck(
        lambda z: ldam_loss(z, Y, margins=MARGINS, weight=W, label_smoothing=0.1),
        COSINES.clone().requires_grad_(),
    )
    extreme = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    ldam_loss(extreme, torch.tensor([1]), margins=MARGINS, head_output="scaled").backward()
    assert extreme.grad.tolist() == [[1, -1, 0]]


def test_cosines_in_half_precision_copies_and_empty_batches() -> None:
    loss = LDAMLoss(margins=MARGINS, weight=W)
    for dtype in (torch.bfloat16, torch.float16):
        half = COSINES.to(dtype).requires_grad_()
        value = loss(half, Y)
        value.backward()
        assert value.dtype == torch.float32
        assert half.grad.isfinite().all()
        torch.testing.assert_close(value, loss(half.detach().float(), Y))
    for copied in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert torch.equal(copied(COSINES, Y), loss(COSINES, Y))
    empty = torch.zeros(0, 3, requires_grad=True)
    loss(empty, torch.zeros(0, dtype=torch.int64)).backward()
    assert loss(COSINES, torch.full_like(Y, -100)) == 0


def test_bad_arguments_are_named() -> None:
    for scale in (0.0, -30.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="scale is"):
            LDAMLoss(margins=MARGINS, scale=scale)
    with pytest.raises(ValueError, match="head_output is 'linear': one of cosine, scaled"):
        LDAMLoss(margins=MARGINS, head_output="linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"margins\[1\] is -0.1"):
        LDAMLoss(margins=[0.5, -0.1])
    with pytest.raises(ValueError, match=r"margins is \[2\]: one entry for each of 3 classes"):
        LDAMLoss(margins=[0.5, 0.1])(COSINES, Y)
    with pytest.raises(ValueError, match="label_smoothing"):
        LDAMLoss(margins=MARGINS, label_smoothing=1.0)


def test_unusual_settings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        LDAMLoss(margins=MARGINS)
        assert not caplog.records
        LDAMLoss(margins=MARGINS, scale=5.0)
        LDAMLoss(margins=MARGINS / 10)
    assert [record.getMessage() for record in caplog.records] == [
        "ldam: scale 5 is outside the usual 10 to 50",
        "ldam: largest margin 0.05 is outside the usual 0.1 to 1",
    ]


def test_a_cosine_head_fits_one_batch() -> None:
    torch.manual_seed(0)
    features, target = torch.randn(12, 16), torch.arange(12) % 3
    head, loss = CosineClassifier(16, 3), LDAMLoss(margins=MARGINS)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss(head(features), target).backward()
        optimizer.step()
    assert torch.equal(head(features).argmax(1), target)
