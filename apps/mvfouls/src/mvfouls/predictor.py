"""A trained network over a data set: probabilities per action, attention per view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.balancing.samplers import ShardedEvalSampler
from common.engine.loading import Batches, iterate, make_loader
from common.engine.task import to_device
from mvfouls.dataset import FoulDataset, collate
from mvfouls.model import FoulModel
from mvfouls.packing import join, pack
from mvfouls.scores import Score, read_all
from mvfouls.split import FoulAction

Floats = NDArray[np.float64]
WIDTH_AXIS = 4


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the network says about a batch: logits and probabilities [B, K] per task, attention [B, V].

    `alone`, if asked for, holds the probabilities [N, K] of each of the N views without the others.
    """

    logits: dict[str, Tensor]
    probabilities: dict[str, Tensor]
    attention: Tensor
    alone: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Answers for every action of a data set, in its order.

    `logits` and `probabilities` are [N, K] per task, `attention` one row per action, as long as it has views.
    Where a sample is a single clip, they are means over an action's clips and every clip weighs the same.
    `alone`, if asked for, holds per task the probabilities [V, K] of each action's views without the others,
    NaN for a view that was not looked at.
    """

    actions: tuple[str, ...]
    logits: dict[str, Floats]
    probabilities: dict[str, Floats]
    attention: tuple[tuple[float, ...], ...]
    alone: dict[str, tuple[Floats, ...]] = field(default_factory=dict)


def answer(
    model: FoulModel,
    batch: Mapping[str, Any],
    scores: Mapping[str, Score],
    *,
    flipped: bool = False,
    alone: bool = False,
) -> Answer:
    """Return the network's answer for a batch of `clips` or `features`.

    `flipped` averages the answer with that for the mirror images of the clips; `alone` asks for that to each
    view by itself, too.
    """
    if "features" in batch:
        return _read(model, *join(batch["features"]), scores, alone)
    views, counts = pack(batch["clips"])
    straight = _read(model, model.backbone(model.normalise(views)), counts, scores, alone)
    if not flipped:
        return straight
    mirror = _read(model, model.backbone(model.normalise(views.flip(WIDTH_AXIS))), counts, scores, alone)
    return Answer(
        logits=_means(straight.logits, mirror.logits),
        probabilities=_means(straight.probabilities, mirror.probabilities),
        attention=(straight.attention + mirror.attention) / 2,
        alone=_means(straight.alone, mirror.alone),
    )


def _read(
    model: FoulModel, features: Tensor, counts: Tensor, scores: Mapping[str, Score], alone: bool
) -> Answer:
    output = model.classify(features, counts)
    single = model.classify(features, counts.new_ones(len(features))).logits if alone else {}
    return Answer(
        logits=output.logits,
        probabilities=read_all(output.logits, scores),
        attention=output.attention,
        alone=read_all(single, scores),
    )


def _means(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {task: (values + second[task]) / 2 for task, values in first.items()}


class Collector:
    """Sums answers per action; `states` are what is added up over processes.

    `alone` keeps what is said of each view by itself; that stays in this process.
    """

    def __init__(
        self,
        dataset: FoulDataset,
        classes: Mapping[str, int],
        device: torch.device,
        *,
        alone: bool = False,
    ) -> None:
        self.actions = dataset.split.actions
        self.rows = torch.as_tensor(dataset.action_rows)
        number = len(self.actions)
        self.seen = torch.zeros(number, dtype=torch.int64, device=device)
        self.logits = {task: torch.zeros(number, size, device=device) for task, size in classes.items()}
        self.probabilities = {task: torch.zeros_like(values) for task, values in self.logits.items()}
        widest = max(len(action.views) for action in self.actions)
        self.attention = torch.zeros(number, widest, device=device)
        kept = classes if alone else {}
        self.alone = {
            task: torch.full((number, widest, size), torch.nan, device=device) for task, size in kept.items()
        }

    def states(self) -> list[Tensor]:
        """Return every tensor that `add` changes."""
        return [self.seen, self.attention, *self.logits.values(), *self.probabilities.values()]

    def reset(self) -> None:
        """Forget everything."""
        for state in self.states():
            state.zero_()
        for values in self.alone.values():
            values.fill_(torch.nan)

    def add(self, found: Answer, samples: Tensor, views: Sequence[tuple[int, ...]]) -> None:
        """Add the answer for `samples` [B], indices into the data set, each made from these of its views."""
        rows = self.rows[samples.cpu()].to(self.seen.device)
        self.seen.index_add_(0, rows, torch.ones_like(rows))
        for task, values in found.logits.items():
            self.logits[task].index_add_(0, rows, values.float())
            self.probabilities[task].index_add_(0, rows, found.probabilities[task].float())
        sample = [number for number, places in enumerate(views) for _ in places]
        nth = [number for places in views for number in range(len(places))]
        column = torch.tensor([place for places in views for place in places])
        weights = found.attention.float()[sample, nth]
        places = (rows[sample], column.to(rows.device))
        self.attention.index_put_(places, weights, accumulate=True)
        for task, kept in self.alone.items():
            kept[places] = found.alone[task].float()

    def complete(self) -> bool:
        """Whether every action has been judged."""
        return bool((self.seen > 0).all())

    def result(self) -> Predictions:
        """Return the answers for the actions that were judged, means where an action had several samples."""
        seen = self.seen.cpu().numpy()
        kept = np.flatnonzero(seen)
        times = seen[kept, None]
        held = [self.actions[row] for row in kept]
        means = self.attention.cpu().numpy()[kept] / times
        return Predictions(
            actions=tuple(action.id for action in held),
            logits={task: _mean(values, kept, times) for task, values in self.logits.items()},
            probabilities={task: _mean(values, kept, times) for task, values in self.probabilities.items()},
            attention=tuple(
                tuple(row[: len(action.views)].tolist()) for row, action in zip(means, held, strict=True)
            ),
            alone={task: _by_action(values, kept, held) for task, values in self.alone.items()},
        )


def predict_all(
    model: FoulModel,
    scores: Mapping[str, Score],
    dataset: FoulDataset,
    *,
    device: torch.device,
    batch_size: int = 2,
    workers: int = 0,
    flipped: bool = False,
    limit: int | None = None,
    alone: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Predictions:
    """Return the answers of `model` for `dataset`, or its first `limit` samples.

    The model is in evaluation mode. `progress` is told the number of samples of each batch that is done.
    """
    batches = Batches(ShardedEvalSampler(limit or len(dataset)), batch_size)
    loader = make_loader(dataset, batches, workers=workers, collate=collate)
    collector = Collector(dataset, model.classes, device, alone=alone)
    with torch.inference_mode():
        for batch in iterate(loader):
            placed = to_device(batch, device)
            found = answer(model, placed, scores, flipped=flipped, alone=alone)
            collector.add(found, placed["key"][:, 0], batch["views"])
            if progress is not None:
                progress(len(batch["action"]))
    return collector.result()


def _by_action(values: Tensor, kept: NDArray[np.int64], actions: Sequence[FoulAction]) -> tuple[Floats, ...]:
    rows = values.cpu().numpy().astype(np.float64)[kept]
    return tuple(row[: len(action.views)] for row, action in zip(rows, actions, strict=True))


def _mean(values: Tensor, kept: NDArray[np.int64], times: NDArray[np.int64]) -> Floats:
    return values.cpu().numpy().astype(np.float64)[kept] / times
