"""Importance of blocks, measured without a trace."""

from __future__ import annotations

import copy

import pytest
import torch
from engine_toy import Faults, ToyTask, same, toy_batch
from freezing_toy import BlockModel, block_model, make_freezer
from torch import Tensor, nn

from common.engine.precision import MixedPrecision
from common.engine.randomness import random_state
from common.engine.task import Headline, LossTerm, Task
from common.freezing.blocks import Block
from common.freezing.probe import probe_importance
from common.freezing.strategies import FreezingConfig

PLAIN = MixedPrecision("fp32", torch.device("cpu"))
BATCHES = [toy_batch(range(4), torch.float32), toy_batch(range(4, 9), torch.float32)]


class Planted(Task):
    """Loss sum(a * x) + 3 sum(b * x) with weights a, b and c, which no loss reaches."""

    headline = Headline("loss", "min")

    def __init__(self) -> None:
        self.model = nn.ParameterDict(
            {"a": torch.full((4,), 2.0), "b": torch.full((4,), 0.5), "c": torch.ones(4)}
        )

    def training_step(self, batch: Tensor) -> dict[str, LossTerm]:
        total = (batch * self.model["a"]).sum() + 3 * (batch * self.model["b"]).sum()
        return {"loss": LossTerm(total, torch.tensor(len(batch)))}

    def normalizers(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": torch.tensor(len(batch))}

    def validation_step(self, batch: Tensor) -> dict[str, LossTerm]:
        return self.training_step(batch)

    def metrics(self) -> dict[str, float]:
        return {}


def test_planted_gradients() -> None:
    """A batch of rows v gives the gradients v and 3 v: norms over the weights' norms 4 and 1, averaged."""
    blocks = [Block(name, (name,), ()) for name in "abc"]
    batches = [torch.full((2, 4), 1.0), torch.full((3, 4), 2.0)]
    found = probe_importance(Planted(), batches, blocks, precision=PLAIN)
    assert found == pytest.approx({"a": (2 / 4 + 4 / 4) / 2, "b": (6 / 1 + 12 / 1) / 2, "c": 0.0})


def spoiled() -> tuple[ToyTask, BlockModel]:
    """Return a task in training, with gradients present and everything but the heads frozen."""
    model = block_model()
    task = ToyTask(model)
    freezer = make_freezer(model, FreezingConfig(strategy="closed"))
    freezer.train()
    model.value.weight.grad = torch.ones_like(model.value.weight)
    task.training_step(BATCHES[0])
    return task, model


def test_frozen_blocks_are_measured_and_nothing_moves() -> None:
    task, model = spoiled()
    before = copy.deepcopy(model.state_dict()), random_state(), task.counted.clone()
    flags = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    gradient = model.value.weight.grad
    found = probe_importance(task, BATCHES, model.blocks(), precision=PLAIN)
    assert list(found) == ["high", "low", "stem"]
    assert all(value > 0 for value in found.values())
    assert same(model.state_dict(), before[0])
    assert torch.equal(random_state()["torch"], before[1]["torch"])
    assert random_state()["python"] == before[1]["python"]
    assert torch.equal(task.counted, before[2])
    assert flags == ([p.requires_grad for p in model.parameters()], [m.training for m in model.modules()])
    assert model.value.weight.grad is gradient
    assert sum(p.grad is not None for p in model.parameters()) == 1
    assert found == probe_importance(task, BATCHES, model.blocks(), precision=PLAIN)


def test_a_batch_too_large_is_run_in_pieces() -> None:
    task, model = spoiled()
    whole = probe_importance(task, BATCHES, model.blocks(), precision=PLAIN)
    task.faults = Faults(no_memory_above=2)
    assert probe_importance(task, BATCHES, model.blocks(), precision=PLAIN) == pytest.approx(whole, rel=1e-5)
    task.faults = Faults(no_memory_above=0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(torch.OutOfMemoryError):
        probe_importance(task, BATCHES, model.blocks(), precision=PLAIN)
    assert same(model.state_dict(), before)
    assert not model.encoder.weight.requires_grad


def test_batches_are_needed() -> None:
    task, model = spoiled()
    with pytest.raises(ValueError, match="no batch"):
        probe_importance(task, [], model.blocks(), precision=PLAIN)
    with pytest.raises(ValueError, match="advanced needs batches"):
        make_freezer(model, FreezingConfig(strategy="advanced"), probe=[])
