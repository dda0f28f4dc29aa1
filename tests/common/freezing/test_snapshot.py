"""A snapshot brings back weights, buffers, moments and averages bit for bit."""

from __future__ import annotations

import copy

import torch
from engine_toy import ToyTask, same, toy_batch, toy_config
from freezing_toy import block_model, make_freezer

from common.engine.distributed import World
from common.engine.state import optimizer_state
from common.engine.step import Optimization
from common.freezing.snapshot import Snapshot
from common.freezing.strategies import FreezingConfig


def step(optimization: Optimization) -> None:
    factors = [1.0] * len(optimization.base_lrs)
    optimization.take([toy_batch(range(6), torch.float32)], factors, lambda old, new: None)


def test_a_snapshot_is_a_copy_and_comes_back_whole() -> None:
    model = block_model()
    config = FreezingConfig(strategy="closed", open_blocks=1)
    freezer = make_freezer(model, config)
    optimization = Optimization(ToyTask(model), toy_config(ema_decay=0.9), World(), freezer)
    step(optimization)
    weights = copy.deepcopy(model.state_dict())
    moments = copy.deepcopy(optimizer_state(optimization.optimizer))
    average = copy.deepcopy(optimization.ema.shadow) if optimization.ema else {}
    snapshot = Snapshot.take(optimization)
    model.requires_grad_(True)
    step(optimization)
    assert not same(model.state_dict(), weights)
    Snapshot(**snapshot.to_dict()).restore(optimization)
    assert same(model.state_dict(), weights)
    restored = optimizer_state(optimization.optimizer)
    assert restored.keys() == moments.keys()
    assert all(same(restored[name], moments[name]) for name in moments)
    assert optimization.ema is not None
    assert same(optimization.ema.shadow, average)
    assert optimization.ema.updates == 1
    assert "encoder.weight" not in restored
