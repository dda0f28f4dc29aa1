"""SimVP: sizes of the literature, what each choice changes, and that it can learn where a pixel goes."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common.config import UserError
from eye_fixation.simvp import PRESETS, SimVP, SimVPConfig, create_model, set_prior_bias
from eye_fixation.simvp_blocks import ConvSC, InceptionBlock, SpatialGate, TemporalGate

TYPES = ("gSTA", "IncepU", "TAU", "ConvMixer")
TINY = {"in_shape": (10, 1, 8, 8), "hid_S": 4, "hid_T": 16, "N_S": 2, "N_T": 3}


def build(**settings: object) -> SimVP:
    torch.manual_seed(0)
    return SimVP(SimVPConfig(**{**TINY, **settings}))  # type: ignore[arg-type]


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def meta(**settings: object) -> SimVP:
    with torch.device("meta"):
        return SimVP(SimVPConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model_type", "total", "translator", "gflop", "entries"),
    [
        ("gSTA", 18_603_009, 18_121_216, 4.636, (214, 48)),
        ("IncepU", 15_963_137, 15_481_344, 4.300, (322, 0)),
        ("TAU", 17_810_049, 17_328_256, 4.525, (230, 48)),
        ("ConvMixer", 1_987_585, 1_505_792, 2.516, (102, 48)),
    ],
)
def test_documented_sizes(
    model_type: str, total: int, translator: int, gflop: float, entries: tuple[int, int]
) -> None:
    with torch.device("meta"):
        model = create_model(model_type=model_type)
        assert size(model) == total
        assert [size(part) for part in (model.enc, model.hid, model.dec)] == [111_936, translator, 369_857]
        parameters, state = dict(model.named_parameters()), model.state_dict()
        assert (len(parameters), len(state) - len(parameters)) == entries
        with FlopCounterMode(display=False) as counter:
            assert model.eval()(torch.empty(1, 10, 1, 32, 32)).shape == (1, 10, 1, 32, 32)
    counts = {name: sum(ops.values()) / 1e9 for name, ops in counter.get_flop_counts().items()}
    assert counts["Global"] == pytest.approx(gflop, abs=5e-4)
    assert [counts["SimVP.enc"], counts["SimVP.dec"]] == pytest.approx([0.436, 1.889], abs=5e-4)


@pytest.mark.parametrize("model_type", TYPES)
def test_preset_sizes(model_type: str) -> None:
    expected = {
        "small": dict(zip(TYPES, (870_657, 559_873, 843_681, 133_889), strict=True)),
        "smoke": dict(zip(TYPES, (181_121, 85_121, 176_657, 34_689), strict=True)),
    }
    with torch.device("meta"):
        for preset, sizes in expected.items():
            assert size(create_model(preset, model_type=model_type)) == sizes[model_type]


@pytest.mark.parametrize(
    ("settings", "total"),
    [
        ({"hid_T": 512}, 46_769_665),
        ({"hid_T": 512, "in_shape": (10, 1, 64, 64)}, 46_769_665),
        ({"in_shape": (16, 1, 32, 32), "out_len": 16}, 31_646_721),
        ({"in_shape": (16, 1, 32, 32), "out_len": 16, "hid_T": 512}, 60_009_985),
        ({"hid_S": 16, "hid_T": 128, "N_S": 2, "N_T": 4}, 1_645_713),
    ],
)
def test_sizes_elsewhere(settings: dict[str, object], total: int) -> None:
    assert size(meta(**settings)) == total


def test_sizes_of_the_blocks() -> None:
    blocks = meta().hid.enc
    assert isinstance(blocks, Sequence | nn.Sequential)
    assert [size(block) for block in blocks] == [8_468_096, *[1_355_520] * 6, 1_520_000]


def expected_names(model_type: str, depth: int) -> set[str]:
    """Names of OpenSTL's parameters and buffers, for 2 layers in encoder and decoder."""
    pairs = ["enc.enc.0.conv.conv", "enc.enc.0.conv.norm", "enc.enc.1.conv.conv", "enc.enc.1.conv.norm"]
    pairs += ["dec.dec.0.conv.conv.0", "dec.dec.0.conv.norm", "dec.dec.1.conv.conv", "dec.dec.1.conv.norm"]
    pairs += ["dec.readout"]
    others, norms = [], []
    for j in range(depth):
        block = f"hid.enc.{j}.block"
        if model_type == "IncepU":
            for half in ("enc", "dec"):
                pairs += [f"hid.{half}.{j}.conv1"]
                pairs += [f"hid.{half}.{j}.layers.{k}.{part}" for k in range(4) for part in ("conv", "norm")]
            continue
        if j in (0, depth - 1):
            pairs += [f"hid.enc.{j}.reduction"]
        if model_type == "ConvMixer":
            pairs += [f"{block}.conv_dw", f"{block}.conv_pw"]
            norms += [f"{block}.norm_1", f"{block}.norm_2"]
            continue
        unit = f"{block}.attn.spatial_gating_unit"
        pairs += [f"{unit}.conv0", f"{unit}.conv_spatial", f"{unit}.conv1"]
        pairs += [f"{block}.{part}" for part in ("attn.proj_1", "attn.proj_2", "mlp.fc1", "mlp.fc2")]
        pairs += [f"{block}.mlp.dwconv.dwconv"]
        others += [f"{block}.layer_scale_1", f"{block}.layer_scale_2"]
        norms += [f"{block}.norm1", f"{block}.norm2"]
        others += [f"{unit}.fc.{k}.weight" for k in (0, 2) if model_type == "TAU"]
    statistics = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {f"{name}.{part}" for name in pairs for part in ("weight", "bias")}
    return names | {f"{name}.{part}" for name in norms for part in statistics} | set(others)


@pytest.mark.parametrize("model_type", TYPES)
def test_names_are_those_of_openstl(model_type: str) -> None:
    assert set(build(model_type=model_type).state_dict()) == expected_names(model_type, 3)


def test_gates_and_inception_by_hand() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 9, 9)
    spatial, temporal, inception = SpatialGate(16), TemporalGate(16), InceptionBlock(16, 8, 24)

    def depthwise(gate: SpatialGate | TemporalGate) -> Tensor:
        y = F.conv2d(x, gate.conv0.weight, gate.conv0.bias, padding=2, groups=16)
        far = gate.conv_spatial
        return gate.conv1(F.conv2d(y, far.weight, far.bias, padding=9, dilation=3, groups=16))

    values, gates = depthwise(spatial).split(16, dim=1)
    torch.testing.assert_close(spatial(x), values * torch.sigmoid(gates))
    assert [tuple(temporal.fc[k].weight.shape) for k in (0, 2)] == [(4, 16), (16, 4)]
    pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
    weights = torch.sigmoid(F.relu(pooled @ temporal.fc[0].weight.T) @ temporal.fc[2].weight.T)
    torch.testing.assert_close(temporal(x), weights[:, :, None, None] * depthwise(temporal) * x)

    hidden, expected = inception.conv1(x), torch.zeros(2, 24, 9, 9)
    for layer, kernel in zip(inception.layers, (3, 5, 7, 11), strict=True):
        y = F.conv2d(hidden, layer.conv.weight, layer.conv.bias, padding=kernel // 2, groups=8)
        expected += F.leaky_relu(F.group_norm(y, 8, layer.norm.weight, layer.norm.bias), 0.2)
    torch.testing.assert_close(inception(x), expected)
    assert [layer.conv.groups for layer in InceptionBlock(16, 8, 20).layers] == [1] * 4


@pytest.mark.parametrize("model_type", ["gSTA", "TAU", "ConvMixer"])
def test_initial_weights_of_the_blocks(model_type: str) -> None:
    block = build(model_type=model_type, hid_T=128).hid.enc[1].block
    for name, conv in block.named_modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = conv.kernel_size[0] ** 2 * conv.out_channels / conv.groups
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
            assert conv.bias is not None
            assert not conv.bias.any()
    scales = [parameter for name, parameter in block.named_parameters() if "layer_scale" in name]
    assert all(scale.eq(0.01).all() for scale in scales)


def test_initial_weights_of_the_ends() -> None:
    model = build(hid_S=32)
    for part in (model.enc, model.dec.dec):
        for conv in (module for module in part.modules() if isinstance(module, nn.Conv2d)):
            assert conv.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert conv.bias is not None
            assert not conv.bias.any()
    torch.manual_seed(0)
    down, up = ConvSC(4, 6, resample="down"), ConvSC(4, 6, resample="up")
    x = torch.randn(1, 4, 8, 8)
    assert (down(x).shape, up(x).shape) == ((1, 6, 4, 4), (1, 6, 16, 16))
    norm = up.conv.norm
    shuffled = F.pixel_shuffle(up.conv.conv[0](x), 2)
    torch.testing.assert_close(up(x), F.silu(F.group_norm(shuffled, 2, norm.weight, norm.bias)))


def test_encoder_and_decoder_change_sides_in_turn() -> None:
    model = create_model("smoke")
    x, sides = torch.zeros(1, 1, 32, 32), []
    for layer in model.enc.enc:
        x = layer(x)
        sides.append(x.shape[-1])
    x = torch.zeros(1, 8, 8, 8)
    for layer in model.dec.dec:
        x = layer(x)
        sides.append(x.shape[-1])
    assert sides == [32, 16, 16, 8, 16, 16, 32, 32]


@pytest.mark.parametrize(
    "settings",
    [
        *({"model_type": kind} for kind in TYPES),
        {"norm": "group", "in_shape": (4, 2, 8, 12), "out_len": 12, "skip": "gated"},
        {"skip": "last", "model_type": "IncepU", "out_len": 5},
    ],
)
def test_every_parameter_moves(settings: dict[str, object]) -> None:
    model = build(**settings)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    shape = model.config.in_shape
    x, y = torch.rand(2, *shape), torch.rand(2, model.config.out_len, *shape[1:])
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []
    assert set(before) == {name for name, _ in model.named_parameters()}


def test_no_stochastic_depth_at_zero() -> None:
    x = torch.rand(2, 10, 1, 8, 8)
    model = build(norm="group").train()
    assert torch.equal(model(x), model(x))
    torch.testing.assert_close(model(x), model.eval()(x))
    for settings in ({"drop_path": 0.9}, {"drop": 0.5}):
        random = build(norm="group", **settings).train()
        assert not torch.equal(random(x), random(x)), settings
        assert torch.equal(random.eval()(x), random(x))


def test_stochastic_depth_rises_over_the_blocks_and_keeps_the_mean() -> None:
    blocks = [stage.block for stage in build(drop_path=0.4).hid.enc]
    assert [getattr(block.drop_path, "rate", 0) for block in blocks] == [0, 0.2, 0.4]
    dropped = blocks[2].drop_path.train()(torch.ones(20_000, 2, 1, 1))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_norm(norm: str) -> None:
    model = build(norm=norm).train()
    x = torch.rand(3, 10, 1, 8, 8)
    alone_equal = torch.allclose(model(x)[:1], model(x[:1]), atol=1e-6)
    assert alone_equal == (norm == "group")
    assert ("hid.enc.0.block.norm1.running_mean" in model.state_dict()) == (norm == "batch")


@pytest.mark.parametrize(("in_len", "out_len"), [(10, 5), (4, 12)])
@pytest.mark.parametrize("skip", ["last", "gated"])
@pytest.mark.parametrize("model_type", TYPES)
def test_horizons_are_outputs_of_one_pass(in_len: int, out_len: int, skip: str, model_type: str) -> None:
    model = build(in_shape=(in_len, 1, 8, 8), out_len=out_len, skip=skip, model_type=model_type).eval()
    calls: list[tuple[int, ...]] = []
    model.enc.register_forward_hook(lambda _, args, __: calls.append(tuple(args[0].shape)))
    y = model(torch.rand(2, in_len, 1, 8, 8))
    assert y.shape == (2, out_len, 1, 8, 8)
    assert calls == [(2 * in_len, 1, 8, 8)]
    gaps = (y[:, :, None] - y[:, None]).abs().amax(dim=(0, 3, 4, 5)) + torch.eye(out_len)
    assert gaps.min() > 1e-7


def test_skip_modes() -> None:
    features = torch.randn(2 * 10, 4, 8, 8)
    frames = features.view(2, 10, 4, 8, 8)
    assert torch.equal(build(skip="aligned").skip(features), frames)
    assert torch.equal(build(skip="last", out_len=3).skip(features), frames[:, -1:])
    gated = build(skip="gated", out_len=3).skip
    assert gated.logits.shape == (3, 10)
    assert gated.logits.softmax(1)[:, -1].tolist() == pytest.approx([0.99] * 3)
    with torch.no_grad():
        gated.logits.zero_()[1, 4] = 50
    torch.testing.assert_close(gated(features)[:, 0], frames.mean(1))
    torch.testing.assert_close(gated(features)[:, 1], frames[:, 4])


def test_the_skip_is_added_before_the_last_layer() -> None:
    model = build()
    x = torch.rand(2, 10, 1, 8, 8)
    latent, first = model.enc(x.flatten(0, 1))
    assert torch.equal(first, model.enc.enc[0](x.flatten(0, 1)))
    hidden = model.hid(latent.reshape(2, 40, 4, 4)).reshape(20, 4, 4, 4)
    y = model.dec.readout(model.dec.dec[1](model.dec.dec[0](hidden) + first))
    model.hid.load_state_dict(build().hid.state_dict())
    torch.testing.assert_close(model(x), y.view(2, 10, 1, 8, 8))


@pytest.mark.parametrize(
    "settings", [{}, {"skip": "last", "out_len": 3}, {"skip": "gated"}, {"model_type": "TAU"}]
)
def test_memory_layout_changes_no_number(settings: dict[str, object]) -> None:
    model = build(**settings).double()
    x = torch.rand(10, 3, 1, 8, 8, dtype=torch.float64).transpose(0, 1)
    assert not x.is_contiguous()
    expected = build(**settings).double()(x.contiguous())
    torch.testing.assert_close(model(x), expected)
    seen: list[bool] = []
    last = build(**settings).double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last.dec.dec[-1].register_forward_hook(
        lambda _, args, __: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    torch.testing.assert_close(last(x), expected)
    assert seen == [True]


def test_wrong_input_raises() -> None:
    model = build()
    for shape in ((2, 9, 1, 8, 8), (2, 10, 2, 8, 8), (2, 10, 8, 8), (2, 10, 1, 8, 16)):
        with pytest.raises(ValueError, match=r"\[B, 10, 1, 8, 8\] is expected"):
            model(torch.zeros(shape))


def test_unknown_arguments_raise() -> None:
    with pytest.raises(TypeError, match="spatio_kernel"):
        SimVPConfig(spatio_kernel=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="hid_s"):
        create_model(hid_s=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"N_S": 3}, "--N-S 3: an even number of at least 2"),
        ({"N_S": 0}, "--N-S 0: an even number of at least 2"),
        ({"N_T": 1}, "--N-T 1: a number of at least 2"),
        ({"hid_S": 5}, "--hid-S 5: an even number"),
        ({"hid_T": 1}, "--hid-T 1"),
        ({"in_shape": (10, 1, 30, 32)}, r"--N-S 4 .* divisible by 2\^\(N_S/2\) = 4, not 30 x 32"),
        ({"in_shape": (10, 1, 32)}, "in_shape"),
        ({"out_len": 0, "skip": "last"}, "--out-len 0"),
        ({"out_len": 12}, "--skip aligned .* --in-len 10 --out-len 12 .* --skip last or --skip gated"),
        ({"model_type": "vit"}, "--model-type vit: one of gSTA, IncepU, TAU, ConvMixer"),
        ({"skip": "first"}, "--skip first: one of aligned, last, gated"),
        ({"norm": "layer"}, "--norm layer: one of batch, group"),
        ({"norm": "group", "hid_T": 20}, "--norm group .* 8, not 20"),
        ({"drop": 1.0}, "--drop 1.0"),
        ({"drop_path": -0.1}, "--drop-path -0.1"),
        ({"mlp_ratio": 0.0}, "--mlp-ratio 0.0"),
        ({"mlp_ratio": float("nan")}, "--mlp-ratio nan"),
    ],
)
def test_choices_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SimVPConfig(**settings)  # type: ignore[arg-type]


def test_names_of_types_and_presets() -> None:
    assert SimVPConfig(model_type="INCEPU").model_type == "IncepU"
    assert SimVPConfig(model_type="convmixer").inert == ("mlp_ratio", "drop", "drop_path")
    with pytest.raises(UserError, match="--preset tiny: one of full, small, smoke"):
        create_model("tiny")
    assert PRESETS["full"] == (64, 256, 4, 8)
    wide = create_model("smoke", in_shape=(3, 2, 16, 8), model_type="tau")
    assert wide(torch.zeros(1, 3, 2, 16, 8)).shape == (1, 3, 2, 16, 8)


def test_mlp_ratio_is_a_width() -> None:
    assert build(mlp_ratio=2.5).hid.enc[1].block.mlp.fc1.weight.shape[0] == 40


def test_prior_bias_moves_every_output_alike() -> None:
    model = build(in_shape=(10, 2, 8, 8)).eval()
    x = torch.rand(1, 10, 2, 8, 8)
    set_prior_bias(model, 0.0)
    before = model(x)
    set_prior_bias(model, -6.930495)
    torch.testing.assert_close(model(x), before - 6.930495)
    assert model.dec.readout.bias is not None
    assert model.dec.readout.bias.requires_grad


@pytest.mark.parametrize("model_type", TYPES)
def test_eight_sequences_are_learned_to_the_cell(model_type: str) -> None:
    torch.manual_seed(0)
    model = create_model("smoke", model_type=model_type)
    cells = torch.randint(1024, (8, 20))
    frames = F.one_hot(cells, 1024).float().view(8, 20, 1, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(frames[:, :10]).flatten(2).transpose(1, 2)
        F.cross_entropy(logits, cells[:, 10:]).backward()
        optimizer.step()
    predicted, wanted = logits.argmax(dim=1), cells[:, 10:]
    rows, columns = predicted // 32 - wanted // 32, predicted % 32 - wanted % 32
    assert torch.hypot(rows.float(), columns.float()).mean() < 0.5
