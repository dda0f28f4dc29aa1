"""Progress, optimiser state by name, and which settings differ."""

from __future__ import annotations

import pytest
import torch
from engine_toy import ToyModel
from torch import nn

from common.engine.settings import OptimizerConfig
from common.engine.state import (
    Progress,
    build_optimizer,
    changed_settings,
    load_optimizer_state,
    optimizer_state,
)
from common.schedulers.groups import param_groups


def build(model: nn.Module, name: str = "adamw") -> torch.optim.Optimizer:
    config = OptimizerConfig(name=name, lr=0.01)  # type: ignore[arg-type]
    return build_optimizer(param_groups(model, config.lr, config.weight_decay), config)


def trained(model: nn.Module, name: str = "adamw") -> torch.optim.Optimizer:
    optimizer = build(model, name)
    for _ in range(3):
        optimizer.zero_grad()
        sum((p * torch.rand_like(p)).sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_restored_optimizer_goes_on_bit_for_bit(name: str) -> None:
    torch.manual_seed(0)
    first = ToyModel()
    optimizer = trained(first, name)
    second = ToyModel()
    second.load_state_dict(first.state_dict())
    twin = build(second, name)
    load_optimizer_state(twin, optimizer_state(optimizer))
    for model, each in ((first, optimizer), (second, twin)):
        torch.manual_seed(1)
        for _ in range(2):
            each.zero_grad()
            sum((p * torch.rand_like(p)).sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
            each.step()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_state_goes_by_name_not_by_position() -> None:
    class Two(nn.Module):
        def __init__(self, *names: str) -> None:
            super().__init__()
            for name in names:
                self.register_module(name, nn.Linear(2, 2, bias=False))

    first, second = Two("a", "b"), Two("b", "a")
    optimizer = trained(first)
    twin = build(second)
    load_optimizer_state(twin, optimizer_state(optimizer))
    moment = optimizer.state[first.a.weight]["exp_avg"]
    assert torch.equal(twin.state[second.a.weight]["exp_avg"], moment)
    assert not torch.equal(twin.state[second.b.weight]["exp_avg"], moment)


def test_loaded_state_shares_no_memory_and_keeps_the_layout_of_the_weights() -> None:
    model = nn.Conv2d(3, 4, 3, bias=False).to(memory_format=torch.channels_last)
    optimizer = trained(model)
    saved = {
        name: {k: v.clone() for k, v in held.items()} for name, held in optimizer_state(optimizer).items()
    }
    load_optimizer_state(optimizer, saved)
    loaded = optimizer.state[model.weight]["exp_avg"]
    assert loaded.stride() == model.weight.stride()
    assert not loaded.requires_grad
    loaded.zero_()
    optimizer.state[model.weight]["step"] += 5
    assert saved["weight"]["exp_avg"].abs().sum() > 0
    assert float(saved["weight"]["step"]) == 3


def test_unknown_parameters_are_named_and_missing_ones_start_fresh() -> None:
    model = ToyModel()
    optimizer = trained(model)
    state = optimizer_state(optimizer)
    with pytest.raises(ValueError, match=r"backbone\.weight"):
        load_optimizer_state(optimizer, {**state, "backbone.weight": {}})
    del state["value.weight"]
    load_optimizer_state(optimizer, state)
    assert "value.weight" not in optimizer_state(optimizer)


def test_progress_round_trip_owns_its_history() -> None:
    progress = Progress(step=7, best=0.5, history=[(3, 0.5)])
    state = progress.state_dict()
    other = Progress()
    other.load_state_dict(state)
    assert other == progress
    other.history.append((7, 0.6))
    assert state["history"] == [(3, 0.5)]
    assert progress.history == [(3, 0.5)]


def test_changed_settings_lists_old_and_new_and_spares_free_ones() -> None:
    old = "lr: 0.1\nmodel: {width: 8, depth: 2}\nworkers: 0\nlog: {every: 1, folder: a}\ngone: 1\n"
    new = "lr: 0.2\nmodel: {width: 8, depth: 3}\nworkers: 4\nlog: {every: 5, folder: b}\nadded: [1, 2]\n"
    lines = changed_settings(old, new, frozenset({"workers", "log"}))
    assert lines == [
        "added: None in the checkpoint, [1, 2] asked for",
        "gone: 1 in the checkpoint, None asked for",
        "lr: 0.1 in the checkpoint, 0.2 asked for",
        "model.depth: 2 in the checkpoint, 3 asked for",
    ]
    assert changed_settings(old, old, frozenset()) == []
    assert changed_settings("a: 1\n", "a: 2\n", frozenset({"a"})) == []
