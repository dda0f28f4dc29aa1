"""The contract that every loss keeps: masks, reductions, precision, counts, modules."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from common.losses import (
    BalancedFocalLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    Loss,
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
    SigmoidFocalLoss,
    TemporalDifferenceLoss,
    TruncatedMSELoss,
    TverskyLoss,
)
from common.losses._reduction import BatchLoss, ElementLoss

K = 3
WEIGHT = [0.5, 1.0, 4.0]
PRIOR = torch.tensor([0.7, 0.2, 0.1]).log()
MARGINS = [0.1, 0.2, 0.5]

ELEMENT: dict[str, Callable[..., Loss]] = {
    "cross_entropy": lambda **kw: CrossEntropyLoss(weight=WEIGHT, **kw),
    "smoothed": lambda **kw: CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1, **kw),
    "torch_smoothed": lambda **kw: CrossEntropyLoss(
        weight=WEIGHT, label_smoothing=0.1, smoothing_weighting="torch", **kw
    ),
    "binary_cross_entropy": lambda **kw: BinaryCrossEntropyLoss(pos_weight=WEIGHT, **kw),
    "focal": lambda **kw: FocalLoss(weight=WEIGHT, gamma=0.5, label_smoothing=0.1, **kw),
    "balanced_focal": lambda **kw: BalancedFocalLoss(WEIGHT, **kw),
    "logit_adjusted": lambda **kw: LogitAdjustedLoss(log_prior=PRIOR, weight=WEIGHT, **kw),
    "ldam": lambda **kw: LDAMLoss(
        margins=MARGINS, scale=10.0, weight=WEIGHT, label_smoothing=0.1, head_output="scaled", **kw
    ),
}
COUPLED: dict[str, Callable[..., Loss]] = {
    "tversky": lambda **kw: TverskyLoss(alpha=0.3, beta=0.7, weight=WEIGHT, **kw),
    "focal_tversky": lambda **kw: TverskyLoss(exponent=0.75, **kw),
    "dice": lambda **kw: DiceLoss(**kw),
    "dice_per_image": lambda **kw: DiceLoss(scope="image", classes="all", **kw),
    "jaccard": lambda **kw: JaccardLoss(activation="sigmoid", **kw),
    "lovasz": lambda **kw: LovaszSoftmaxLoss(**kw),
    "lovasz_per_image": lambda **kw: LovaszSoftmaxLoss(per_image=True, classes="all", **kw),
}
ALL = ELEMENT | COUPLED
BINARY: dict[str, Callable[..., Loss]] = {
    "sigmoid_focal": lambda **kw: SigmoidFocalLoss(gamma=0.5, **kw),
    "sigmoid_focal_positives": lambda **kw: SigmoidFocalLoss(normalizer="positives", alpha="balanced", **kw),
    "lovasz_hinge": lambda **kw: LovaszHingeLoss(**kw),
    "lovasz_hinge_per_image": lambda **kw: LovaszHingeLoss(per_image=True, **kw),
}
STEPS: dict[str, Callable[..., Loss]] = {
    "truncated_mse": lambda **kw: TruncatedMSELoss(tau=1.0, **kw),
    "temporal_difference": lambda **kw: TemporalDifferenceLoss(**kw),
}

every = pytest.mark.parametrize("name", ALL)
element = pytest.mark.parametrize("name", ELEMENT)
coupled = pytest.mark.parametrize("name", COUPLED)
binary = pytest.mark.parametrize("name", BINARY)
steps = pytest.mark.parametrize("name", STEPS)


def batch(
    seed: int = 0, shape: tuple[int, ...] = (2, 4, 5), dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Return logits [B, K, *] and labels [B, *] that hold every class."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape[0], K, *shape[1:], generator=generator, dtype=dtype)
    return logits, torch.randint(K, shape, generator=generator)


def binary_batch() -> tuple[Tensor, Tensor]:
    logits, target = batch()
    return logits[:, 0], (target == 1).double()


def test_every_module_is_of_one_of_the_two_kinds() -> None:
    for name, make in (ALL | BINARY | STEPS).items():
        assert isinstance(make(), ElementLoss | BatchLoss), name


@every
@pytest.mark.parametrize("shape", [(2, 4), (3,), (0,), (0, 4, 4), (2, 0, 4)])
def test_all_ignored_or_empty_is_zero_with_zero_gradient(name: str, shape: tuple[int, ...]) -> None:
    logits, target = batch(shape=shape)
    logits.requires_grad_()
    loss = ALL[name]()(logits, torch.full_like(target, -100))
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@binary
@pytest.mark.parametrize("shape", [(2, 4), (3,), (0,)])
def test_binary_losses_of_nothing_are_zero(name: str, shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, requires_grad=True)
    loss = BINARY[name]()(logits, torch.full(shape, -100.0))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@every
def test_ignoring_equals_removing(name: str) -> None:
    logits, target = batch(shape=(1, 12))
    keep = torch.arange(12) % 3 != 1
    expected = ALL[name]()(logits[:, :, keep], target[:, keep])
    masked = torch.where(keep, target, -100)
    torch.testing.assert_close(ALL[name]()(logits, masked), expected, rtol=1e-12, atol=1e-12)
    masked = torch.where(keep, target, 255)
    torch.testing.assert_close(ALL[name](ignore_index=255)(logits, masked), expected, rtol=1e-12, atol=1e-12)
    by_mask = ALL[name]()(logits, target, valid=keep.unsqueeze(0))
    torch.testing.assert_close(by_mask, expected, rtol=1e-12, atol=1e-12)


@binary
def test_ignoring_equals_removing_for_binary_losses(name: str) -> None:
    logits, target = (part.reshape(1, -1) for part in binary_batch())
    keep = torch.arange(logits.shape[1]) % 3 != 1
    expected = BINARY[name]()(logits[:, keep], target[:, keep])
    ignored = BINARY[name]()(logits, torch.where(keep, target, -100.0))
    masked = BINARY[name]()(logits, target, valid=keep.unsqueeze(0))
    torch.testing.assert_close(ignored, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(masked, expected, rtol=1e-12, atol=1e-12)


@every
def test_ignore_index_may_be_a_class(name: str) -> None:
    logits, target = batch()
    by_index = ALL[name](ignore_index=1)(logits, target)
    by_mask = ALL[name]()(logits, target, valid=target != 1)
    torch.testing.assert_close(by_index, by_mask, rtol=1e-12, atol=0)
    assert by_index != ALL[name]()(logits, target)


@every
@pytest.mark.parametrize("huge", [1e30, -3e38])
def test_ignored_elements_have_no_gradient_whatever_stands_there(name: str, huge: float) -> None:
    logits, target = batch(dtype=torch.float32)
    expected = ALL[name]()(logits, torch.where(target == 0, -100, target))
    ignored = (target == 0).unsqueeze(1).expand_as(logits)
    logits[ignored] = huge
    logits[:, 0][target == 0] = -huge
    logits.requires_grad_()
    loss = ALL[name]()(logits, torch.where(target == 0, -100, target))
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert not logits.grad[ignored].any()
    assert logits.grad[~ignored].any()


@element
def test_reduction_none_is_zero_at_ignored_and_adds_up(name: str) -> None:
    logits, target = batch()
    target[0] = -100
    single = ELEMENT[name](reduction="none")(logits, target)
    assert single.shape == target.shape
    assert not single[0].any()
    assert (single[1] > 0).all()
    total = ELEMENT[name](reduction="sum")(logits, target)
    torch.testing.assert_close(total, single.sum())
    torch.testing.assert_close(ELEMENT[name](reduction="valid_mean")(logits, target), total / 20)


@element
@pytest.mark.parametrize("reduction", ["mean", "valid_mean"])
def test_totals_of_parts_add_up_to_the_whole(name: str, reduction: str) -> None:
    logits, target = batch()
    target[0, 0] = -100
    loss = ELEMENT[name](reduction=reduction)
    whole = loss(logits, target)
    parts = [loss.total_and_count(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(sum(t for t, _ in parts) / sum(c for _, c in parts), whole, rtol=1e-12, atol=0)
    for i, (_, count) in enumerate(parts):
        assert loss.normalizer(target[i : i + 1]) == count


@pytest.mark.parametrize("name", COUPLED | BINARY)
def test_total_over_count_is_the_loss(name: str) -> None:
    logits, target = binary_batch() if name in BINARY else batch()
    loss = (ALL | BINARY)[name]()
    total, count = loss.total_and_count(logits, target)
    torch.testing.assert_close(total / count, loss(logits, target))
    assert loss.normalizer(target) == count
    if name in COUPLED:
        assert count == 2
        assert loss.normalizer(target, valid=torch.zeros_like(target).bool()) == 0


@coupled
def test_an_ignored_image_changes_nothing(name: str) -> None:
    logits, target = batch()
    expected = ALL[name]().total_and_count(logits, target)
    padded = torch.cat([target, torch.full_like(target[:1], -100)])
    found = ALL[name]().total_and_count(torch.cat([logits, logits[:1]]), padded)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_a_loss_that_is_no_mean_has_no_count(reduction: str) -> None:
    with pytest.raises(ValueError, match="mean or valid_mean"):
        FocalLoss(reduction=reduction).total_and_count(*batch())


@pytest.mark.parametrize("name", ELEMENT | STEPS | {"sigmoid_focal": BINARY["sigmoid_focal"]})
def test_an_unknown_reduction_lists_the_four(name: str) -> None:
    with pytest.raises(ValueError, match="none, sum, mean, valid_mean"):
        (ALL | BINARY | STEPS)[name](reduction="average")


@every
def test_a_stray_label_is_named(name: str) -> None:
    logits, target = batch()
    target[1, 2, 3] = 7
    with pytest.raises(ValueError, match=r"target\[1, 2, 3\] is 7 \(1 such"):
        ALL[name]()(logits, target)
    target[1, 2, 3] = -1
    with pytest.raises(ValueError, match=r"target\[1, 2, 3\] is -1"):
        ALL[name](ignore_index=255)(logits, target)
    target[1, 2, 3] = K
    with pytest.raises(ValueError, match=rf"is {K}"):
        ALL[name]()(logits, target)


@every
def test_shapes_that_do_not_fit_are_named(name: str) -> None:
    logits, target = batch()
    with pytest.raises(ValueError, match="do not fit"):
        ALL[name]()(logits, target[:, :3])
    with pytest.raises(ValueError, match="valid is"):
        ALL[name]()(logits, target, valid=torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.parametrize("name", [name for name in ELEMENT if name != "binary_cross_entropy"])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, 2.0], "one entry for each of 3"),
        ([1.0, -2.0, 1.0], r"weight\[1\] is -2"),
        ([1.0, 1.0, float("nan")], r"\[2\]"),
    ],
)
def test_bad_weights_are_named(name: str, weight: list[float], message: str) -> None:
    kinds = {"focal": FocalLoss, "balanced_focal": BalancedFocalLoss}
    make = kinds.get(name, CrossEntropyLoss)
    with pytest.raises(ValueError, match=message):
        (make(weight) if make is BalancedFocalLoss else make(weight=weight))(*batch())


@every
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_any_integer_type_is_a_label(name: str, dtype: torch.dtype) -> None:
    logits, target = batch()
    loss = ALL[name](ignore_index=255)
    assert loss(logits, target.to(dtype)) == loss(logits, target)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    logits, target = batch(dtype=torch.float32)
    half = logits.to(dtype).requires_grad_()
    loss = ALL[name]()(half, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad is not None
    assert half.grad.isfinite().all()
    torch.testing.assert_close(loss, ALL[name]()(half.detach().float(), target))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ALL[name]()(logits, target)
    torch.testing.assert_close(inside, ALL[name]()(logits, target))


@every
def test_memory_layout_does_not_matter(name: str) -> None:
    logits, target = batch()
    expected = ALL[name]()(logits, target)
    last = logits.contiguous(memory_format=torch.channels_last).requires_grad_()
    turned = target.transpose(1, 2).contiguous().transpose(1, 2)
    loss = ALL[name]()(last, turned)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    volume = logits.reshape(2, K, 2, 2, 5)
    torch.testing.assert_close(ALL[name]()(volume, target.reshape(2, 2, 2, 5)), expected)


@every
def test_float64_stays(name: str) -> None:
    logits, target = batch()
    assert ALL[name]()(logits, target).dtype == torch.float64
    single = ALL[name]()(logits.float(), target)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), ALL[name]()(logits, target), rtol=1e-5, atol=1e-6)


@every
def test_inputs_and_grad_mode_are_left_alone(name: str) -> None:
    logits, target = batch()
    before = logits.clone(), target.clone()
    with torch.no_grad():
        ALL[name]()(logits, target)
        assert not torch.is_grad_enabled()
    ALL[name]()(logits, target)
    assert torch.is_grad_enabled()
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])


@pytest.mark.parametrize("name", ALL | BINARY | STEPS)
def test_forward_and_backward_never_look_at_a_value_on_a_device(name: str) -> None:
    """The meta device holds no values: reading one, or a shape that depends on one, raises there."""
    logits, target = binary_batch() if name in BINARY else batch(shape=(2, 20))
    loss = (ALL | BINARY | STEPS)[name]().to("meta")
    logits = logits.to("meta").requires_grad_()
    loss(logits, target.to("meta")).backward()
    assert logits.grad is not None
    loss.normalizer(target.to("meta"))


@every
def test_modules_can_be_copied_pickled_moved_and_restored(name: str) -> None:
    logits, target = batch()
    loss = ALL[name]()
    expected = loss(logits, target)
    pickled = pickle.loads(pickle.dumps(loss))
    assert torch.equal(pickled(logits, target), expected)
    assert torch.equal(copy.deepcopy(loss)(logits, target), expected)
    assert all(buffer.device.type == "meta" for buffer in copy.deepcopy(loss).to("meta").buffers())
    stream = io.BytesIO()
    torch.save(loss.state_dict(), stream)
    stream.seek(0)
    assert not loss.load_state_dict(torch.load(stream, weights_only=True)).missing_keys


def test_weights_margins_and_priors_are_buffers() -> None:
    assert set(LogitAdjustedLoss(log_prior=PRIOR, weight=WEIGHT).state_dict()) == {"log_prior", "weight"}
    assert set(LDAMLoss(margins=MARGINS, weight=WEIGHT).state_dict()) == {"margins", "weight"}
    assert set(SigmoidFocalLoss(alpha=[0.5, 0.1]).state_dict()) == {"alpha_values"}
    assert set(BinaryCrossEntropyLoss(pos_weight=WEIGHT).state_dict()) == {"pos_weight"}
    assert set(DiceLoss(weight=WEIGHT).state_dict()) == {"weight"}


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(sorted(set(ALL) - {"binary_cross_entropy"})))
def test_order_of_batch_and_pixels_does_not_matter(seed: int, name: str) -> None:
    logits, target = batch(seed)
    loss = ALL[name]()
    expected = loss(logits, target)
    torch.testing.assert_close(loss(logits.flip(0, 3), target.flip(0, 2)), expected)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(K)))
def test_names_of_classes_do_not_matter(seed: int, order: list[int]) -> None:
    logits, target = batch(seed)
    renamed = torch.tensor([order.index(c) for c in range(K)])[target]
    weight = torch.tensor(WEIGHT)[order]
    for make in (
        lambda w: FocalLoss(weight=w, label_smoothing=0.1),
        lambda w: CrossEntropyLoss(weight=w, label_smoothing=0.1),
        lambda w: TverskyLoss(weight=w, alpha=0.3),
        lambda w: LovaszSoftmaxLoss(),
    ):
        expected = make(torch.tensor(WEIGHT))(logits, target)
        torch.testing.assert_close(make(weight)(logits[:, order], renamed), expected)


@pytest.mark.parametrize("name", [*ALL])
def test_a_linear_layer_fits_one_batch(name: str) -> None:
    torch.manual_seed(0)
    features, target = torch.randn(12, 16), torch.arange(12) % K
    layer, loss = nn.Linear(16, K), ALL[name]()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(layer(features).t().unsqueeze(0), target.unsqueeze(0)).backward()
        optimizer.step()
    assert torch.equal(layer(features).argmax(1), target)


@steps
@pytest.mark.parametrize("shape", [(2, 6), (2, 1), (2, 0), (0, 6)])
def test_steps_that_are_all_ignored_or_none_give_zero_with_zero_gradient(
    name: str, shape: tuple[int, int]
) -> None:
    logits, target = batch(shape=shape)
    logits.requires_grad_()
    loss = STEPS[name]()(logits, torch.full_like(target, -100))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    if shape[1] == 1:
        assert STEPS[name]()(logits, target) == 0


@steps
@pytest.mark.parametrize("huge", [1e30, -3e38])
def test_ignored_steps_are_as_if_removed_whatever_stands_there(name: str, huge: float) -> None:
    logits, target = batch(shape=(2, 9), dtype=torch.float32)
    expected = STEPS[name]().total_and_count(logits[..., :6], target[:, :6])
    logits[:, :, 6:], logits[:, 0, 6:] = huge, -huge
    logits.requires_grad_()
    for ignored, valid in ((255, None), (-1, torch.arange(9).expand(2, 9) < 6)):
        marked = torch.where(torch.arange(9) < 6, target, 255)
        loss = STEPS[name](ignore_index=ignored)
        found = loss.total_and_count(logits, marked, valid)
        torch.testing.assert_close(found, expected)
        logits.grad = None
        loss(logits, marked, valid).backward()
        assert not logits.grad[..., 6:].any()
        assert logits.grad[..., :6].any()


@steps
@pytest.mark.parametrize("reduction", ["mean", "valid_mean"])
def test_totals_of_parts_add_up_to_the_whole_over_steps(name: str, reduction: str) -> None:
    logits, target = batch(shape=(4, 7))
    target[0, :3] = -100
    loss = STEPS[name](reduction=reduction)
    parts = [loss.total_and_count(logits[i : i + 1], target[i : i + 1]) for i in range(4)]
    whole = sum(t for t, _ in parts) / sum(c for _, c in parts)
    torch.testing.assert_close(loss(logits, target), whole, rtol=1e-12, atol=0)
    assert [float(c) for _, c in parts] == [3, 6, 6, 6]
    assert [float(loss.normalizer(target[i : i + 1])) for i in range(4)] == [3, 6, 6, 6]
    single = STEPS[name](reduction="none")(logits, target)
    assert single.shape == (4, 6)
    assert not single[0, :3].any()
    torch.testing.assert_close(STEPS[name](reduction="sum")(logits, target), single.sum())
    with pytest.raises(ValueError, match="mean or valid_mean"):
        STEPS[name](reduction="sum").total_and_count(logits, target)


@steps
def test_step_losses_keep_precision_inputs_and_modules(name: str) -> None:
    logits, target = batch(shape=(2, 8))
    before, expected = logits.clone(), STEPS[name]()(logits, target)
    assert expected.dtype == torch.float64
    assert torch.equal(logits, before)
    for dtype in (torch.bfloat16, torch.float16):
        half = logits.to(dtype).requires_grad_()
        loss = STEPS[name]()(half, target)
        loss.backward()
        assert loss.dtype == torch.float32
        assert half.grad.isfinite().all()
        torch.testing.assert_close(loss, STEPS[name]()(half.detach().float(), target))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(STEPS[name]()(logits.float(), target), expected.float())
    for copied in (pickle.loads(pickle.dumps(STEPS[name]())), copy.deepcopy(STEPS[name]())):
        assert torch.equal(copied(logits, target), expected)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(sorted(STEPS)), order=st.permutations(range(K)))
def test_order_of_batch_and_classes_does_not_matter_to_step_losses(
    seed: int, name: str, order: list[int]
) -> None:
    logits, target = batch(seed, shape=(3, 5))
    target[0, 2] = -100
    expected = STEPS[name]()(logits, target)
    torch.testing.assert_close(STEPS[name]()(logits[:, order].flip(0), target.flip(0)), expected)
