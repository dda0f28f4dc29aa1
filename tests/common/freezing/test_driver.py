"""A freezer's flags, modes, groups and rates; an opening and a rollback in a real training run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_toy import ToyTask, same
from freezing_toy import FrozenRun, block_model, make_freezer, run_freezing
from torch import Tensor, nn

from common.engine.logging import read_events
from common.engine.state import optimizer_state
from common.freezing.driver import Freezer, settled
from common.freezing.rates import RateConfig
from common.freezing.state import FreezingState
from common.freezing.strategies import FreezingConfig

ANY = {"base_importance_threshold": 0.0}


def opened(freezer: Freezer, **since: int | None) -> Freezer:
    """Open pieces: `high1` stands for high.1."""
    names = {"high1": "high.1", "high0": "high.0", "low1": "low.1", "low0": "low.0", "stem": "stem"}
    freezer.state = FreezingState(opened={names[key]: value for key, value in since.items()})
    return freezer


def test_groups_are_pairs_of_smallest_pieces_at_their_rates() -> None:
    model = block_model()
    rates = RateConfig(discriminative=True, multipliers=(("stem", 2.0),))
    freezer = opened(make_freezer(model, FreezingConfig(), rates), high1=0)
    freezer.rates = rates
    groups = freezer.parameter_groups(0.1)
    assert [group["name"] for group in groups][:6] == [
        "head/decay",
        "head/no_decay",
        "high.1/decay",
        "high.1/no_decay",
        "high.0/decay",
        "high.0/no_decay",
    ]
    held = [name for group in groups for name in group["param_names"]]
    assert sorted(held) == sorted(name for name, _ in model.named_parameters())
    rate = {group["name"]: group["lr"] for group in groups}
    assert rate["head/decay"] == pytest.approx(5e-5)
    assert rate["high.0/decay"] == pytest.approx(1e-5)
    assert rate["low.1/no_decay"] == pytest.approx(0.9e-5)
    assert rate["stem/decay"] == pytest.approx(2 * 0.81e-5)
    assert {group["weight_decay"] for group in freezer.parameter_groups(0.1, decay_all=True)} == {0.1}


def test_only_opened_pieces_warm_up() -> None:
    freezer = opened(make_freezer(block_model(), FreezingConfig(strategy="closed")), high1=4, high0=None)
    groups = freezer.parameter_groups(0.0)
    factors = {group["name"]: factor for group, factor in zip(groups, freezer.warmups(groups, 4.5))}
    assert factors["high.1/decay"] == pytest.approx(0.1 + 0.9 * 0.25)
    assert factors["high.0/decay"] == factors["head/decay"] == 1.0


def test_rates_go_by_the_shortest_names() -> None:
    freezer = opened(make_freezer(block_model(), FreezingConfig(strategy="closed")), high1=0, high0=0, low1=0)
    groups = freezer.parameter_groups(0.0)
    assert list(freezer.named_rates(groups)) == ["head", "high", "low.1"]
    for group in groups:
        group["lr"] = 0.5 if group["name"].startswith("high.0") else 0.25
    assert freezer.named_rates(groups) == {"head": 0.25, "high.1": 0.25, "high.0": 0.5, "low.1": 0.25}
    assert freezer.open_names == ("high", "low.1")
    assert freezer.open_blocks == 2


def test_frozen_modules_stay_in_eval_mode() -> None:
    model = block_model()
    freezer = opened(make_freezer(model, FreezingConfig(strategy="closed")), high1=0)
    freezer.train()
    assert model.training
    assert model.frames.training
    assert model.high.training
    assert model.high.pieces[1].training
    assert not any(module.training for module in model.high.pieces[0].modules())
    assert not any(module.training for module in model.low.modules())


def test_settings_that_say_something_about_each_other() -> None:
    fixed = FreezingConfig(strategy="fixed")
    assert settled(fixed, RateConfig()) == (fixed, RateConfig())
    config, _ = settled(fixed, RateConfig(gradual=False))
    assert (config.strategy, config.open_blocks) == ("closed", 3)
    assert settled(FreezingConfig(strategy="fixed", unfreeze_blocks=0), RateConfig())[0].open_blocks == 0
    assert not settled(FreezingConfig(), RateConfig())[1].gradual


def test_what_does_not_fit_is_refused() -> None:
    model = block_model()
    with pytest.raises(ValueError, match="multipliers: unknown block 'layer9'"):
        make_freezer(model, FreezingConfig(), RateConfig(multipliers=(("layer9", 2.0),)))
    with pytest.raises(ValueError, match="unfreeze_blocks"):
        make_freezer(model, FreezingConfig(strategy="fixed", unfreeze_blocks=4))
    other = make_freezer(model, FreezingConfig())
    state = other.state_dict()
    state["state"]["opened"] = {"layer9": None}
    with pytest.raises(ValueError, match="unknown here: layer9"):
        other.load_state_dict(state)


def weights_at_epochs(task: ToyTask) -> list[dict[str, Tensor]]:
    """Return a list that fills with the weights at the start of every validation."""
    kept: list[dict[str, Tensor]] = []
    task.faults.in_validation = lambda _: kept.append(copy.deepcopy(task.model.state_dict()))
    return kept


def run(
    folder: Path, config: FreezingConfig, metrics: list[float], **options: Any
) -> tuple[FrozenRun, list[dict[str, Tensor]]]:
    task = ToyTask(block_model(), scripted=metrics)
    kept = weights_at_epochs(task)
    options = {"ema_decay": 0.0, **options}
    return run_freezing(folder, config, metrics, task=task, **options), kept


def moved(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    return {name for name in first if not torch.equal(first[name], second[name])}


def test_only_what_is_open_moves(tmp_path: Path) -> None:
    """The first of two epochs trains the heads, the second the emergency's piece too; statistics included."""
    config = FreezingConfig(strategy="advanced", emergency_unfreeze_epoch=1)
    start = copy.deepcopy(block_model().state_dict())
    found, kept = run(tmp_path / "run", config, [0.3, 0.3])
    heads = {"frames.weight", "frames.bias", "value.weight", "value.bias"}
    assert moved(start, kept[0]) == heads
    piece = {name for name in start if name.startswith("high.pieces.1.")}
    assert moved(kept[0], kept[1]) == heads | piece
    assert "high.pieces.1.1.running_mean" in piece
    assert "freeze   epoch 1 emergency open high.1" in found.outcome.console.splitlines()
    events = [line for line in read_events(tmp_path / "run" / "events.jsonl") if line["kind"] == "freezing"]
    (event,) = events
    assert (event["event"], event["epoch"], event["blocks"], event["open"]) == (
        "emergency",
        1,
        ["high.1"],
        ["high.1"],
    )
    assert set(event["importance"]) == {"high", "low", "stem"}
    epochs = [line for line in found.outcome.metrics() if line["kind"] == "epoch"]
    assert [line["freeze/open_blocks"] for line in epochs] == [0.0, 1.0]
    assert "lr/high.1" in epochs[1]
    assert "lr/high.1" not in epochs[0]


def test_none_moves_everything(tmp_path: Path) -> None:
    start = copy.deepcopy(block_model().state_dict())
    found, kept = run(tmp_path / "run", FreezingConfig(), [0.3])
    assert moved(start, kept[0]) == set(start)
    assert "freeze" not in found.outcome.console


def test_an_opening_carries_moments_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[dict[str, dict[str, Tensor]]] = []
    follow = Freezer._follow

    def watching(self: Freezer, state: Any, decisions: Any, optimization: Any, seen: Any) -> None:
        moments.append(copy.deepcopy(optimizer_state(optimization.optimizer)))
        follow(self, state, decisions, optimization, seen)
        moments.append(copy.deepcopy(optimizer_state(optimization.optimizer)))

    monkeypatch.setattr(Freezer, "_follow", watching)
    run(tmp_path / "run", FreezingConfig(strategy="schedule", schedule=((1, "high"),)), [0.3, 0.3])
    before, after, end = moments[:3]
    assert before.keys() == after.keys() == {"frames.weight", "frames.bias", "value.weight", "value.bias"}
    assert all(same(before[name], after[name]) for name in before)
    assert {float(state["step"]) for name, state in end.items() if name.startswith("high")} == {4.0}
    assert float(end["value.weight"]["step"]) == 8.0


def test_a_rollback_brings_back_the_weights_before_the_opening(tmp_path: Path) -> None:
    config = FreezingConfig(strategy="advanced", min_unfreeze_layers=0, **ANY)
    task = ToyTask(block_model(), scripted=[0.4, 0.4, 0.39, 0.39, 0.39])
    kept = weights_at_epochs(task)
    starts: list[dict[str, Tensor]] = []
    task.begin_epoch = lambda epoch: starts.append(copy.deepcopy(task.model.state_dict()))  # type: ignore[method-assign]
    found = run_freezing(tmp_path / "run", config, [0.4] * 5, task=task, ema_decay=0.0)
    assert "epoch 4 rollback close high" in found.outcome.console
    assert same(starts[4], kept[1])
    assert not same(kept[3], kept[1])
    assert found.freezer.snapshot is None
    assert found.freezer.state.rollbacks == 1
    assert moved(starts[4], kept[4]) == {"frames.weight", "frames.bias", "value.weight", "value.bias"}


def test_rates_of_a_run(tmp_path: Path) -> None:
    """Heads at head_lr until the opening, then at five times the blocks'; the block warms up."""
    rates = RateConfig(head_lr=0.02, backbone_lr=0.001, warmup_epochs=2)
    config = FreezingConfig(strategy="schedule", schedule=((1, "high"),))
    found, _ = run(tmp_path / "run", config, [0.3] * 4, rates=rates, log_every=1)
    steps = [line for line in found.outcome.metrics() if line["kind"] == "step"]
    assert [line["lr/head"] for line in steps] == pytest.approx([0.02] * 4 + [0.005] * 12)
    warm = [0.1 + 0.9 * step / 8 for step in range(8)] + [1.0] * 4
    assert [line["lr/high"] for line in steps[4:]] == pytest.approx([0.001 * factor for factor in warm])


def test_the_heads_alone_slow_down_on_a_plateau(tmp_path: Path) -> None:
    rates = RateConfig(head_lr=0.02, backbone_lr=0.001, phase1_plateau_patience=2, warmup_epochs=0)
    config = FreezingConfig(strategy="schedule", schedule=((4, "high"),))
    found, _ = run(tmp_path / "run", config, [0.3] * 5, rates=rates, log_every=4)
    steps = [line for line in found.outcome.metrics() if line["kind"] == "step"]
    assert [line["lr/head"] for line in steps] == pytest.approx([0.02, 0.02, 0.02, 0.004, 0.005])


def test_modules_without_blocks_are_never_frozen() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    freezer = Freezer(model, (), FreezingConfig(strategy="closed"), RateConfig())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert freezer.open_names == ()
