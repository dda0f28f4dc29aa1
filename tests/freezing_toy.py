"""A tiny network in blocks and what freezing tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from engine_toy import CLASSES as TOY_CLASSES
from engine_toy import FEATURES, FRAMES, HIDDEN, Outcome, ToyTask, toy_batch, toy_config, toy_loaders, train
from torch import Tensor, nn

from common.engine.distributed import World
from common.engine.randomness import seed_everything
from common.freezing.blocks import Block
from common.freezing.decisions import decide, initial_state
from common.freezing.driver import Freezer
from common.freezing.rates import RateConfig
from common.freezing.state import Decision, FreezingState, Observation
from common.freezing.strategies import FreezingConfig

NAMES = ("layer4", "layer3", "layer2", "layer1", "stem")
"""Blocks of the network that strategies are simulated for, from the heads on; all but the stem have parts."""


def named_block(name: str) -> Block:
    if name == "stem":
        return Block("stem", ("stem.weight",), ("stem",))
    parts = tuple(Block(f"{name}.{i}", (f"{name}.{i}.weight",), (f"{name}.{i}",)) for i in (1, 0))
    return Block(name, tuple(part.parameters[0] for part in parts), (name,), parts)


BLOCKS = tuple(named_block(name) for name in NAMES)


@dataclass
class Simulation:
    """What a strategy decided over a run with given metrics and importance."""

    decisions: list[Decision] = field(default_factory=list)
    states: list[FreezingState] = field(default_factory=list)

    def at(self, *events: str) -> list[tuple[int, tuple[str, ...]]]:
        """Return (completed epochs, blocks) of decisions of these kinds."""
        return [(each.epoch, each.blocks) for each in self.decisions if each.event in events]

    @property
    def opened(self) -> list[tuple[int, tuple[str, ...]]]:
        return self.at("unfreeze", "emergency")


def simulate(
    config: FreezingConfig,
    metrics: Sequence[float | None],
    *,
    epochs: int = 50,
    importance: Mapping[str, float] | None = None,
    blocks: Sequence[Block] = BLOCKS,
) -> Simulation:
    """Let a strategy see one metric per epoch, the last one repeated to the end of the run."""
    found, state = Simulation(), initial_state(config, blocks)
    for epoch in range(1, epochs + 1):
        metric = metrics[min(epoch, len(metrics)) - 1]
        seen = Observation(epoch=epoch, epochs=epochs, metric=metric, importance=importance)
        state, decisions = decide(config, blocks, state, seen)
        found.decisions += decisions
        found.states.append(state)
    return found


class Stage(nn.Module):
    """Two residual pieces with batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = nn.ModuleList(
            nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.Dropout(0.1))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for piece in self.pieces:
            x = x + torch.tanh(piece(x))
        return x


class BlockModel(nn.Module):
    """`stem`, `low`, `high` and two heads; answers as the engine's toy model does."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, HIDDEN)
        self.low, self.high = Stage(), Stage()
        self.frames = nn.Linear(HIDDEN, FRAMES * TOY_CLASSES)
        self.value = nn.Linear(HIDDEN, 1)

    def forward(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        hidden = self.high(self.low(self.encoder(torch.stack([each.mean(0) for each in views]))))
        return self.frames(hidden).view(-1, FRAMES, TOY_CLASSES), self.value(hidden)[:, 0]

    def blocks(self) -> tuple[Block, ...]:
        """Return high, low and stem, the first two in pieces `.1` and `.0`."""
        names = [name for name, _ in self.named_parameters()]

        def block(name: str, path: str, parts: tuple[Block, ...] = ()) -> Block:
            held = tuple(each for each in names if each.startswith(f"{path}."))
            return Block(name, held, (path,), parts)

        stages = (
            block(name, name, tuple(block(f"{name}.{i}", f"{name}.pieces.{i}") for i in (1, 0)))
            for name in ("high", "low")
        )
        return (*stages, block("stem", "encoder"))


def block_model(seed: int = 0) -> BlockModel:
    seed_everything(seed)
    return BlockModel()


def make_freezer(
    model: BlockModel, config: FreezingConfig, rates: RateConfig | None = None, **options: Any
) -> Freezer:
    """Return a freezer that probes with two fixed batches."""
    probe = [toy_batch(range(4), torch.float32), toy_batch(range(4, 8), torch.float32)]
    return Freezer(model, model.blocks(), config, rates or TOY_RATES, **{"probe": probe, **options})


TOY_RATES = RateConfig(head_lr=0.02, backbone_lr=0.01, warmup_epochs=2)


@dataclass
class FrozenRun:
    """A finished run with its freezer."""

    outcome: Outcome
    freezer: Freezer


def run_freezing(
    folder: Path,
    config: FreezingConfig,
    metrics: Sequence[float],
    *,
    rates: RateConfig | None = None,
    task: ToyTask | None = None,
    resume: str | None = None,
    world: World | None = None,
    scale: float = 1.0,
    **changes: Any,
) -> FrozenRun:
    """Train the block model with scripted metrics, four steps an epoch."""
    world = world or World()
    task = task or ToyTask(block_model(world.rank), scripted=list(metrics))
    freezer = make_freezer(task.model, config, rates, metric_scale=scale)
    outcome = train(
        folder,
        task,
        toy_loaders(12, 3 if world.size == 1 else 2, world=world),
        toy_config(**{"epochs": len(metrics), "ema_decay": 0.5, **changes}),
        resume=resume,
        world=world,
        freezer=freezer,
    )
    return FrozenRun(outcome, freezer)
