"""What can be seen of the pieces of a training: looks that the rows of its flags share."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from mv_pieces import Built
from mv_tiny_backbone import DIM
from torch import nn

from common.engine.randomness import SampleKey
from mvfouls.dataset import collate
from mvfouls.packing import pack

GOLDEN = (2.0, 0.0, -1.0)
"""Logits of the golden numbers."""


def draws(b: Built) -> dict[int, int]:
    """Return how often an epoch draws each sample."""
    return dict(sorted(Counter(key.index for key in b.drawn()).items()))


def share_of_the_red(b: Built, epochs: int = 40) -> float:
    """Return the share of draws that are samples with a red card."""
    red = b.training.presented_labels("severity") == 4
    return float(np.mean([red[key.index] for epoch in range(epochs) for key in b.drawn(epoch)]))


def loss_of(b: Built, task: str, logits: tuple[float, ...], label: int) -> float:
    """Return the loss of one sample."""
    classes = b.model.classes
    targets = {name: torch.tensor([label if name == task else -100]) for name in classes}
    given = {name: torch.zeros(1, size) for name, size in classes.items()} | {task: torch.tensor([logits])}
    return float(b.task.objective.terms(given, targets)[task].total)


def weight_of(b: Built, label: int) -> float:
    """Return by what the loss of a severity is multiplied."""
    return loss_of(b, "severity", (0.0,) * 5, label) / math.log(5)


def shares(b: Built) -> dict[str, float]:
    """Return the share of each task in what is minimised."""
    return {task: round(term.weight, 6) for task, term in b.task.training_step(b.batch).items()}


def pools_by_the_mean(b: Built) -> bool:
    """Return whether the feature of an action is the mean of those of its views."""
    b.model.eval()
    features = 5 * torch.randn(5, DIM, generator=torch.Generator().manual_seed(0))
    found = b.model.classify(features, torch.tensor([2, 3])).features
    means = torch.stack([features[:2].mean(0), features[2:].mean(0)])
    return torch.allclose(found, means, atol=1e-3)


def loader_changes(b: Built) -> bool:
    """Return whether any sample of the loader is not what it is in the files."""
    plain = b.data.plain(b.settings)
    keys = [SampleKey(index, 1, 5 * index) for index in range(6)]
    return any(not torch.equal(b.training[key]["clips"], plain[key]["clips"]) for key in keys)


def model_changes(b: Built) -> bool:
    """Return whether the network sees anything but what the loader gave it."""
    return any(not torch.equal(b.seen(batch), given(b, batch)) for batch in b.batches()[:2])


def given(b: Built, batch: dict[str, Any]) -> torch.Tensor:
    return b.model.normalise(pack(batch["clips"])[0])


def sizes_seen(b: Built) -> set[tuple[int, ...]]:
    """Return the sizes of the inputs of training: of a sample for each scale that is drawn."""
    keys = {b.training.describe(key)["draw"].scale: key for epoch in range(3) for key in b.drawn(epoch)}
    return {tuple(b.seen(collate([b.training[key]])).shape[-2:]) for key in keys.values()}


def size_judged(b: Built) -> tuple[int, ...]:
    return tuple(b.judged["clips"][0].shape[-2:])


def moved(b: Built) -> float:
    """Return how far one step moves the weights."""
    before = [p.detach().clone() for p in b.model.parameters()]
    step(b)
    pairs = zip(b.model.parameters(), before)
    return math.sqrt(sum(float((p.detach() - old).square().sum()) for p, old in pairs))


def step(b: Built) -> None:
    """Take one optimiser step as the engine does."""
    b.freezer.train()
    b.task.begin_epoch(0)
    groups = b.optimization.optimizer.param_groups
    b.optimization.take([b.batch], [1.0] * len(groups), lambda old, new: None)


def precision_inside(b: Built) -> torch.dtype:
    """Return in which numbers the network's convolutions answer in a training step."""
    found: list[torch.dtype] = []
    convolution = next(m for m in b.model.modules() if isinstance(m, nn.Conv3d))
    handle = convolution.register_forward_hook(lambda module, inputs, output: found.append(output.dtype))
    step(b)
    handle.remove()
    return found[0]


def averages(b: Built) -> bool:
    """Return whether averaged weights follow the others half-way."""
    if b.optimization.ema is None:
        return False
    name = "heads.offence.0.weight"
    before = b.model.state_dict()[name].clone()
    step(b)
    after, average = b.model.state_dict()[name], b.optimization.ema.shadow[name]
    return bool(torch.isfinite(average).all()) and not torch.equal(before, after)


def passes_of_a_judgement(b: Built) -> int:
    """Return how often the backbone runs to judge one batch."""
    passes: list[int] = []
    handle = b.model.backbone.register_forward_hook(lambda module, inputs, output: passes.append(1))
    b.model.eval()
    b.task.begin_validation()
    with torch.no_grad():
        b.task.validation_step(b.judged)
    handle.remove()
    return len(passes)


def cleanups(b: Built) -> int:
    """Return how often memory is given back in four batches."""
    for _ in range(4):
        b.task.training_step(b.batch)
    return b.task.cleanups


def margin_of_training(b: Built) -> float:
    """Return by how much a loss is larger in training than in a validation."""
    cosines = (0.2, 0.5, -0.1)
    training = loss_of(b, "offence", cosines, 0)
    b.task.objective.eval()
    return training - loss_of(b, "offence", cosines, 0)


def is_compiled(b: Built) -> bool:
    """Return whether torch is asked to compile the backbone; it would take long to do so."""
    asked: list[nn.Module] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "compile", lambda module: asked.append(module))
        return b.model.backbone in asked
