from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mv_tiny_backbone import DIM, tiny_backbone

from common.config import UserError
from mvfouls.aggregation import build_aggregator
from mvfouls.architectures import BACKBONES
from mvfouls.backbones import VideoBackbone
from mvfouls.heads import build_head
from mvfouls.model import FoulModel, build_model
from mvfouls.settings import HeadSpec, ModelSettings

CLASSES = {"action_class": 8, "severity": 5, "offence": 3}
LINEAR = HeadSpec(kind="linear", dropout=0.5)


def settings(head: HeadSpec = LINEAR, **more: Any) -> ModelSettings:
    return ModelSettings(heads=dict.fromkeys(CLASSES, head), **more)


def tiny_model(kind: Any = "attention", *, checkpointing: bool = False) -> FoulModel:
    torch.manual_seed(0)
    return FoulModel(
        tiny_backbone(checkpointing=checkpointing),
        build_aggregator(kind, DIM),
        {task: build_head(HeadSpec(), DIM, count) for task, count in CLASSES.items()},
        classes=CLASSES,
        normalisation=BACKBONES["r2plus1d_18"].normalisation,
        dropout=0.1,
    )


@pytest.mark.parametrize(
    ("given", "cosine", "frames", "size", "total"),
    [
        (settings(HeadSpec()), (), 16, (224, 398), 31_765_550),
        (settings(backbone="mvitv2_b", aggregation="mean"), ("offence",), 32, (224, 224), 50_934_829),
        (settings(backbone="swin3d_t", aggregation="mean"), tuple(CLASSES), 16, (224, 224), 27_862_758),
        (
            ModelSettings(
                backbone="swin3d_t",
                aggregation="mean",
                heads={
                    "action_class": LINEAR,
                    "severity": LINEAR,
                    "offence": HeadSpec(kind="deep_mlp", depth=3, hidden=1024, dropout=0.2),
                },
            ),
            ("offence",), 16, (224, 224), 30_756_339,
        ),
    ],
    ids=["M1", "L1", "L2", "L3"],
)  # fmt: skip
def test_golden_totals(
    given: ModelSettings, cosine: tuple[str, ...], frames: int, size: tuple[int, int], total: int
) -> None:
    with torch.device("meta"):
        model = build_model(given, CLASSES, cosine, frames, size)
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    in_blocks = {name for block in model.blocks() for name in block.parameters}
    rest = {name for name, _ in model.named_parameters()} - in_blocks
    assert in_blocks <= {name for name, _ in model.named_parameters()}
    assert {name.split(".")[0] for name in rest} <= {"aggregator", "heads"}


@pytest.mark.parametrize("kind", ["attention", "mean", "max"])
def test_neither_order_of_views_nor_other_actions_change_logits(kind: Any) -> None:
    model = tiny_model(kind).eval()
    clips = torch.rand(6, 3, 2, 32, 32)
    together = model(clips, torch.tensor([1, 3, 2]))
    turned = model(clips[[0, 3, 1, 2, 5, 4]], torch.tensor([1, 3, 2]))
    alone = model(clips[1:4], torch.tensor([3]))
    assert {task: list(logits.shape) for task, logits in together.logits.items()} == {
        task: [3, count] for task, count in CLASSES.items()
    }
    assert together.attention.shape == (3, 3)
    assert together.features.shape == (3, DIM)
    for task, logits in together.logits.items():
        torch.testing.assert_close(turned.logits[task], logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.logits[task][0], logits[1], atol=1e-5, rtol=1e-5)


def test_a_single_action_with_a_single_view_trains() -> None:
    model = tiny_model().train()
    names = [name for name, _ in model.named_parameters()]
    output = model(model.normalise(torch.rand(1, 3, 2, 32, 32)), torch.tensor([1]))
    torch.stack([logits.square().sum() for logits in output.logits.values()]).sum().backward()
    assert [name for name, _ in model.named_parameters()] == names
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_only_existing_views_reach_the_statistics() -> None:
    model, other = tiny_model().train(), tiny_model().train()
    clips = torch.rand(3, 3, 2, 32, 32)
    model(clips, torch.tensor([1, 2]))
    other.backbone(clips)
    for (name, value), expected in zip(model.backbone.named_buffers(), other.backbone.buffers()):
        assert torch.equal(value, expected), name


def test_normalises_as_the_weights_expect() -> None:
    model = tiny_model()
    expected = [(0.5 - m) / s for m, s in zip(model.mean_values, model.std_values)]
    assert model.normalise(torch.full((1, 3, 1, 1, 1), 0.5)).flatten().tolist() == pytest.approx(expected)
    assert model.mean_values == (0.43216, 0.394666, 0.37645)
    assert not {"mean", "std"} & set(model.state_dict())


def test_stored_features_give_the_same_output() -> None:
    model = tiny_model().eval()
    clips, counts = torch.rand(3, 3, 2, 32, 32), torch.tensor([2, 1])
    whole, stored = model(clips, counts), model.classify(model.backbone(clips), counts)
    assert all(torch.equal(whole.logits[task], stored.logits[task]) for task in CLASSES)


def test_half_precision_features_are_pooled_in_float32() -> None:
    model = tiny_model().eval()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.rand(2, 3, 2, 32, 32), torch.tensor([2]))
    assert output.features.dtype == output.attention.dtype == torch.float32


@pytest.mark.parametrize(("backbone", "tables"), [("mvitv2_b", 1 + 3 * 24), ("swin3d_t", 12), ("mc3_18", 0)])
def test_no_weight_decay(backbone: str, tables: int) -> None:
    with torch.device("meta"):
        model = build_model(settings(backbone=backbone), CLASSES, (), 16, (224, 224))
    assert len(model.no_weight_decay()) == tables
    assert model.no_weight_decay() <= {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet50"}, "--backbone_name"),
        ({"backbone": "mvit_v2_s"}, "--img_height"),
        ({"weights": "absent.pth"}, "--weights"),
        ({"weights": "auto", "backbone": "resnet3d_50"}, "--weights auto"),
    ],
)
def test_what_the_user_can_correct(change: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build_model(replace(settings(), **change), CLASSES, (), 16, (224, 398))


def test_heads_and_classes_must_agree() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="heads"):
        build_model(settings(), {"severity": 5}, (), 16, (224, 398))


def test_settings_reach_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(VideoBackbone, "compile", lambda backbone: compiled.append(backbone))
    with torch.device("meta"):
        source = build_model(settings(backbone="mc3_18"), CLASSES, (), 16, (64, 64))
    state = {name: torch.zeros(value.shape) for name, value in source.backbone.network.state_dict().items()}
    torch.save(state | {"fc.weight": torch.ones(400, 512)}, tmp_path / "mc3_18-a90a0ba3.pth")
    given = settings(
        backbone="mc3_18", weights="auto", weights_dir=tmp_path, weights_classes=400, temperature=0.5,
        dropout=0.3, activation_checkpointing=True, channels_last=True, compile=True,
    )  # fmt: skip
    model = build_model(given, CLASSES, (), 16, (64, 64))
    assert all((parameter == 0).all() for parameter in model.backbone.parameters())
    assert model.aggregator.temperature == 0.5
    assert model.dropout.p == 0.3
    assert model.backbone.checkpointing
    stem = model.backbone.network.get_parameter("stem.0.weight")
    assert stem.is_contiguous(memory_format=torch.channels_last_3d)
    assert compiled == [model.backbone]
    with pytest.raises(UserError, match="600"):
        build_model(replace(given, weights_classes=600), CLASSES, (), 16, (64, 64))
