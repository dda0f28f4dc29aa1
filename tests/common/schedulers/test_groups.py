import pytest
import torch
from torch import Tensor, nn

from common.schedulers.groups import layerwise_param_groups, param_groups


class Scaled(nn.Module):
    """A network with every kind of parameter that decay must tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.GroupNorm(2, 8), nn.LayerNorm((4, 4)))
        self.gamma = nn.Parameter(torch.ones(8))
        self.layer_scale = nn.Parameter(torch.ones(8, 1, 1))
        self.bias = nn.Parameter(torch.ones(4, 4))
        self.position = nn.Parameter(torch.zeros(1, 16, 8))
        self.head = nn.Linear(8, 1)
        self.tied = nn.Linear(8, 1)
        self.tied.weight = self.head.weight

    def no_weight_decay(self) -> set[str]:
        return {"position"}


def names_of(groups: list[dict], kind: str) -> set[str]:
    return {name for group in groups if group["name"].endswith(kind) for name in group["param_names"]}


def assert_each_parameter_once(model: nn.Module, groups: list[dict]) -> None:
    held: list[Tensor] = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len({id(parameter) for parameter in held})
    assert {id(parameter) for parameter in held} == {id(parameter) for parameter in model.parameters()}
    own = dict(model.named_parameters())
    for group in groups:
        assert [id(own[name]) for name in group["param_names"]] == [id(p) for p in group["params"]]


def test_only_matrices_and_kernels_decay() -> None:
    model = Scaled()
    groups = param_groups(model, 0.1, 0.01)
    assert_each_parameter_once(model, groups)
    assert names_of(groups, "/decay") == set()
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in groups] == [
        ("decay", 0.1, 0.01),
        ("no_decay", 0.1, 0.0),
    ]
    assert set(groups[0]["param_names"]) == {"stem.0.weight", "body.0.weight", "head.weight"}


def test_decay_all_leaves_one_group() -> None:
    model = Scaled()
    groups = param_groups(model, 0.1, 0.01, decay_all=True)
    assert_each_parameter_once(model, groups)
    assert [(group["name"], group["weight_decay"]) for group in groups] == [("decay", 0.01)]


def test_without_gradient_decay_shrinks_matrices_and_nothing_else() -> None:
    model = Scaled()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(param_groups(model, 0.1, 0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if name in {"stem.0.weight", "body.0.weight", "head.weight"} else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)
    assert "param_names" in optimizer.state_dict()["param_groups"][0]


BLOCKS = [
    ("body", ["body.0.weight", "body.1.weight", "body.1.bias", "body.2.weight", "body.2.bias"]),
    ("stem", ["stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.bias", "position"]),
]


def test_rates_fall_from_the_head_backwards() -> None:
    model = Scaled()
    groups = layerwise_param_groups(
        model, BLOCKS, head_lr=1.0, backbone_lr=0.1, layer_decay=0.5, weight_decay=0.01
    )
    assert_each_parameter_once(model, groups)
    assert {(group["name"], group["lr"], group["weight_decay"]) for group in groups} == {
        ("head/decay", 1.0, 0.01),
        ("head/no_decay", 1.0, 0.0),
        ("body/decay", 0.1, 0.01),
        ("body/no_decay", 0.1, 0.0),
        ("stem/decay", 0.05, 0.01),
        ("stem/no_decay", 0.05, 0.0),
    }
    assert names_of(groups, "head/decay") == {"head.weight"}
    assert "position" in names_of(groups, "stem/no_decay")


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([("a", [])], "'a' holds no parameter"),
        ([("a", ["head.weight"]), ("a", ["gamma"])], "block name 'a' is taken"),
        ([("head", ["head.weight"])], "block name 'head' is taken"),
        ([("a", ["gamma"]), ("b", ["gamma"])], "block 'b': parameter 'gamma' is unknown or in an earlier"),
        ([("a", ["neck.weight"])], "'neck.weight' is unknown"),
    ],
)
def test_blocks_that_do_not_partition_are_named(blocks: list, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        layerwise_param_groups(Scaled(), blocks, head_lr=1.0, backbone_lr=0.1, weight_decay=0.0)
