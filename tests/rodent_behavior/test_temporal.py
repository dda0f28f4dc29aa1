"""Causality, masking, receptive field and dropout of the temporal models."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rodent_behavior.temporal import TCN, DilatedLayer, Dropout, DualLayer, FrameConv, MSTCNpp, TimeConv

D, C, T = 5, 4, 40


def build(name, **arguments):
    torch.manual_seed(0)
    if name == "mstcnpp":
        return MSTCNpp(D, C, **{"hidden_dim": 8, "num_layers": 3, **arguments}).eval()
    return TCN(D, C, **{"hidden_dim": 64, "num_layers": 2, **arguments}).eval()


def inputs(batch=1, frames=T, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, D, frames, generator=generator), torch.ones(batch, frames, dtype=torch.bool)


@pytest.mark.parametrize("name", ["mstcnpp", "tcn"])
@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_causal_models_do_not_look_ahead(name, head):
    model = build(name, causal=True, head=head)
    x, valid = inputs()
    changed = x.clone()
    changed[:, :, 21:] += 3
    for before, after in zip(model(x, valid).stages, model(changed, valid).stages):
        assert torch.equal(before[:, :, :21], after[:, :, :21])
        assert not torch.equal(before[:, :, 21], after[:, :, 21])


@pytest.mark.parametrize("name", ["mstcnpp", "tcn"])
def test_other_models_look_both_ways(name):
    model = build(name)
    x, valid = inputs()
    changed = x.clone()
    changed[:, :, 20] += 3
    moved = (model(x, valid).stages[0] - model(changed, valid).stages[0]).abs().amax(1)[0] > 0
    assert moved[19]
    assert moved[21]


@pytest.mark.parametrize(("name", "reach"), [("mstcnpp", 20), ("tcn", 6)])
def test_receptive_field_of_the_first_stage(name, reach):
    """Dual layers of dilations (4,1) (2,2) (1,4) reach 2 x (4 + 2 + 4) frames back, blocks 2 x (1 + 2)."""
    model = build(name, causal=True)
    x, valid = inputs()
    changed = x.clone()
    changed[:, :, 10] += 3
    moved = (model(x, valid).stages[0] - model(changed, valid).stages[0]).abs().amax(1)[0] > 0
    assert moved.nonzero()[-1].item() == 10 + reach
    assert moved.nonzero()[0].item() == 10


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["mstcnpp", "tcn"])
def test_padding_and_companions_change_nothing(name, causal):
    model = build(name, causal=causal)
    x, _ = inputs(batch=3)
    valid = torch.arange(T).lt(torch.tensor([[T], [25], [31]]))
    x[1, :, 25:] = float("nan")
    together = model(x, valid)
    alone = model(x[1:2, :, :25], torch.ones(1, 25, dtype=torch.bool))
    for many, one in zip([*together.stages, together.features], [*alone.stages, alone.features]):
        assert torch.allclose(many[1:2, :, :25], one, atol=1e-5)
        assert (many[1, :, 25:] == 0).all()


def test_frames_that_are_not_valid_hide_their_input():
    model = build("mstcnpp")
    x, valid = inputs()
    valid[:, 12:15] = False
    changed = x.clone()
    changed[:, :, 12:15] = 100
    assert torch.equal(model(x, valid).stages[-1], model(changed, valid).stages[-1])


def test_dual_layer_by_the_book():
    torch.manual_seed(0)
    layer = DualLayer(3, (4, 1), causal=False, dropout=0.0)
    x = torch.randn(1, 3, 12)
    both = torch.cat(
        [
            F.conv1d(x, layer.falling.weight, layer.falling.bias, padding=4, dilation=4),
            F.conv1d(x, layer.rising.weight, layer.rising.bias, padding=1, dilation=1),
        ],
        dim=1,
    )
    expected = x + F.relu(
        torch.einsum("oi,bit->bot", layer.fuse.weight[:, :, 0], both) + layer.fuse.bias[:, None]
    )
    assert torch.allclose(layer(x, torch.ones(1, 1, 12)), expected, atol=1e-6)


def test_dilated_layer_by_the_book():
    torch.manual_seed(0)
    layer = DilatedLayer(3, 2, causal=True, dropout=0.0)
    x = torch.randn(1, 3, 12)
    hidden = F.relu(F.conv1d(F.pad(x, (4, 0)), layer.conv.weight, layer.conv.bias, dilation=2))
    expected = x + torch.einsum("oi,bit->bot", layer.mix.weight[:, :, 0], hidden) + layer.mix.bias[:, None]
    assert torch.allclose(layer(x, torch.ones(1, 1, 12)), expected, atol=1e-6)


def test_refinement_sees_the_softmax_of_the_stage_before():
    model = build("mstcnpp", refinements=2)
    x, valid = inputs()
    output = model(x, valid)
    keep = torch.ones(1, 1, T)
    assert len(output.stages) == 3
    again = model.refinements[1](output.stages[1].softmax(dim=1), keep)[1]
    assert torch.equal(again, output.stages[2])


def test_tcn_normalises_each_frame_alone():
    model = build("tcn", num_layers=1)
    x, valid = inputs()
    block = model.blocks[0]
    one = block.conv(x)[0, :, 7].view(8, 8)
    expected = (one - one.mean(1, keepdim=True)) / (one.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    project = F.conv1d(x, block.project.weight, block.project.bias)[0, :, 7]
    assert torch.allclose(model(x, valid).features[0, :, 7], project + F.gelu(expected.flatten()), atol=1e-5)


def test_only_the_tcn_has_norm_layers_and_causal_models_have_the_same_parameters():
    norms = [
        module for module in build("mstcnpp").modules() if isinstance(module, nn.GroupNorm | nn.BatchNorm1d)
    ]
    assert not norms
    for name in ("mstcnpp", "tcn"):
        shapes = [
            {k: v.shape for k, v in build(name, causal=causal).state_dict().items()} for causal in (0, 1)
        ]
        assert shapes[0] == shapes[1]


def test_cosine_logits_are_scaled_cosines():
    model = build("mstcnpp", head="cosine", refinements=0)
    x, valid = inputs()
    output = model(x, valid)
    weight = model.first.output.output.weight
    cosines = F.cosine_similarity(output.features[0, :, 3], weight, dim=1)
    assert torch.allclose(output.stages[0][0, :, 3], 30 * cosines, atol=1e-4)


def test_both_dropouts_act():
    x, valid = inputs()
    for dropouts in ((0.5, 0.0), (0.0, 0.5)):
        for name in ("mstcnpp", "tcn"):
            model = build(name, dropouts=dropouts).train()
            assert not torch.equal(model(x, valid).stages[0], model(x, valid).stages[0])
            features = torch.equal(model(x, valid).features, model(x, valid).features)
            assert features == (dropouts[0] == 0)


def test_time_conv_keeps_the_length():
    for causal in (False, True):
        assert TimeConv(2, 3, dilation=7, causal=causal)(torch.zeros(1, 2, 4)).shape == (1, 3, 4)


def test_unlike_shapes_are_an_error():
    x, valid = inputs()
    with pytest.raises(ValueError, match="valid"):
        build("tcn")(x, valid[:, :-1])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dilation", [1, T // 2, T - 1, T, 4 * T])
def test_time_conv_is_a_padded_convolution(dilation, causal):
    torch.manual_seed(0)
    conv = TimeConv(D, C, dilation=dilation, causal=causal)
    x = torch.randn(2, D, T, requires_grad=True)
    padded = F.pad(x, (2 * dilation, 0) if causal else (dilation, dilation))
    expected = F.conv1d(padded, conv.weight, conv.bias, dilation=dilation)
    _same_with_gradients(conv(x), expected, [x, conv.weight, conv.bias])


def test_frame_conv_is_a_convolution_of_one_tap():
    torch.manual_seed(0)
    conv = FrameConv(D, C)
    x = torch.randn(2, D, T, requires_grad=True)
    expected = F.conv1d(x, conv.weight, conv.bias)
    _same_with_gradients(conv(x), expected, [x, conv.weight, conv.bias])


def _same_with_gradients(found, expected, leaves):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    ahead = torch.randn_like(found)
    gradients = [torch.autograd.grad(y, leaves, ahead) for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(rate, dtype):
    torch.manual_seed(0)
    x = torch.ones(3, 111_111, dtype=dtype, requires_grad=True)
    y = Dropout(rate)(x)
    assert y.dtype is dtype
    share, size = (y == 0).double().mean().item(), x.numel()
    assert abs(share - rate) < 4 * (rate * (1 - rate) / size) ** 0.5 + 2**-17
    kept = y[y != 0].detach()
    assert torch.equal(kept, torch.full_like(kept, 1 / (1 - rate)))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)


def test_dropout_draws_anew_from_torch_s_own_seed_and_rests_in_evaluation():
    dropout, x = Dropout(0.5), torch.randn(7, 5)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))
    assert Dropout(0.5)(x[:0]).shape == (0, 5)


@pytest.mark.parametrize("rate", [1e-6, 1 - 1e-6])
def test_dropout_holds_at_rates_near_0_and_1(rate):
    torch.manual_seed(0)
    share = (Dropout(rate)(torch.ones(10_000)) == 0).double().mean().item()
    assert abs(share - rate) < 1e-3
