"""A step in smaller parts once a block has opened, with the same result."""

from pathlib import Path
from typing import Any

import torch
from engine_toy import Outcome, ToyTask, toy_config, toy_loaders, train
from freezing_toy import TOY_RATES, BlockModel, block_model
from torch import nn

from common.freezing.driver import Freezer
from common.freezing.strategies import FreezingConfig
from mvfouls.smaller_batch import ShrinkingFreezer

SCHEDULE = FreezingConfig(strategy="schedule", schedule=((1, "high"), (2, "low")))


class Watched(ToyTask):
    """Remembers the size of each micro-batch by epoch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, scripted=[0.1, 0.2, 0.3])
        self.sizes: dict[int, set[int]] = {}
        self.epoch_seen = 0

    def begin_epoch(self, epoch: int) -> None:
        self.epoch_seen = epoch
        super().begin_epoch(epoch)

    def training_step(self, batch: Any) -> Any:
        self.sizes.setdefault(self.epoch_seen, set()).add(self.size(batch))
        return super().training_step(batch)


def plain_model() -> BlockModel:
    """Return a model whose result does not depend on how a batch is cut: without batch norms and dropout."""
    model = block_model()
    for stage in (model.low, model.high):
        for piece in stage.pieces:
            piece[1], piece[2] = nn.LayerNorm(piece[0].out_features), nn.Identity()
    return model


def run(folder: Path, largest: int | None, *, resume: str | None = None) -> tuple[Outcome, Watched]:
    model = plain_model()
    task = Watched(model)
    if largest is None:
        freezer = Freezer(model, model.blocks(), SCHEDULE, TOY_RATES)
    else:
        freezer = ShrinkingFreezer(model, model.blocks(), SCHEDULE, TOY_RATES, largest=largest)
    config = toy_config(epochs=3, ema_decay=0.0)
    return train(folder, task, toy_loaders(12, 6), config, resume=resume, freezer=freezer), task


def test_parts_shrink_with_the_first_opening_and_the_result_stays(tmp_path):
    whole, watched = run(tmp_path / "whole", None)
    assert set().union(*watched.sizes.values()) == {6}
    cut, watched = run(tmp_path / "cut", 4)
    assert watched.sizes == {0: {6}, 1: {3}, 2: {3}}
    assert cut.summary.steps == whole.summary.steps
    for name, value in whole.task.model.state_dict().items():
        assert torch.allclose(value, cut.task.model.state_dict()[name], atol=1e-6), name


def test_a_larger_part_than_the_batch_changes_nothing(tmp_path):
    _, watched = run(tmp_path, 8)
    assert set().union(*watched.sizes.values()) == {6}
