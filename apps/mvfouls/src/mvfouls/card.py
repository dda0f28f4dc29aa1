"""What a checkpoint says about its model besides the weights, and a model rebuilt from that alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.config import UserError
from common.engine.checkpoint import CheckpointError, find_checkpoint, load_checkpoint, load_weights
from common.engine.manifest import EMA, MODEL
from mvfouls.frames import FrameRule
from mvfouls.labels import JunkIds
from mvfouls.model import FoulModel, build_model
from mvfouls.scores import Score, score_of
from mvfouls.settings import HeadSpec, ModelSettings, Pixels, ProjectionSettings, RunSettings, ViewSettings

APPLICATION = "mvfouls"
MANNERS = ("weights_dir", "activation_checkpointing", "channels_last", "compile")
"""Settings of a network that say how it is computed on one machine, not what it is."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything needed to use a model without its training data. `tasks` holds the class names by id."""

    model: ModelSettings
    tasks: dict[str, tuple[str, ...]]
    scores: dict[str, Score]
    pixels: Pixels
    views: ViewSettings
    projection: ProjectionSettings
    junk_ids: JunkIds | None = None
    cosine: tuple[str, ...] = ()
    normalisation: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        values = {"application": APPLICATION, **asdict(self)}
        values["model"] = {name: value for name, value in values["model"].items() if name not in MANNERS}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """Restore what `to_dict` returned."""
        model, pixels = dict(values["model"]), dict(values["pixels"])
        model["heads"] = {task: HeadSpec(**head) for task, head in model["heads"].items()}
        pixels["frames"] = FrameRule(**pixels["frames"])
        return cls(
            model=ModelSettings(**model),
            tasks={task: tuple(names) for task, names in values["tasks"].items()},
            scores={task: Score(**score) for task, score in values["scores"].items()},
            pixels=Pixels(**pixels),
            views=ViewSettings(**values["views"]),
            projection=ProjectionSettings(**values["projection"]),
            junk_ids=values["junk_ids"],
            cosine=tuple(values["cosine"]),
            normalisation={name: tuple(numbers) for name, numbers in values["normalisation"].items()},
        )

    def build(self) -> FoulModel:
        """Return the network with random weights."""
        classes = {task: len(names) for task, names in self.tasks.items()}
        plain = ModelSettings(**{**vars(self.model), "weights": "none", "compile": False})
        size = (self.pixels.height, self.pixels.width)
        return build_model(plain, classes, self.cosine, self.pixels.frames.count, size)


def describe(settings: RunSettings, tasks: Mapping[str, tuple[str, ...]], model: FoulModel) -> ModelCard:
    """Return the card of the model that `settings` train."""
    losses = settings.losses
    return ModelCard(
        model=settings.model,
        tasks=dict(tasks),
        scores={task: score_of(losses[task]) for task in tasks},
        pixels=settings.data.pixels,
        views=settings.data.views,
        projection=settings.judge.projection,
        junk_ids=settings.data.junk_ids,
        cosine=tuple(task for task in tasks if losses[task].kind == "ldam"),
        normalisation={"mean": model.mean_values, "std": model.std_values},
    )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model read from a checkpoint, in evaluation mode."""

    model: FoulModel
    card: ModelCard
    path: Path
    epoch: int
    step: int
    averaged: bool
    """Whether the weights are the running averages, which is what was validated."""


def load_trained(where: Path, device: torch.device) -> Trained:
    """Read a run folder (its best checkpoint) or a checkpoint folder.

    UserError when it is none of ours, and for tensors that do not fit the network it describes.
    """
    try:
        folder = find_checkpoint("best", where) if (where / "checkpoints").is_dir() else where
        checkpoint = load_checkpoint(folder)
    except CheckpointError as error:
        raise UserError(f"--checkpoint {where}: {error}") from error
    if checkpoint.metadata.get("application") != APPLICATION:
        raise UserError(f"--checkpoint {where}: not a model of {APPLICATION}")
    card = ModelCard.from_dict(checkpoint.metadata)
    model = card.build()
    file = folder / (EMA if checkpoint.ema else MODEL)
    try:
        load_weights(model, checkpoint.ema or checkpoint.model, what=str(file))
    except ValueError as error:
        raise UserError(f"--checkpoint {where}: {error}") from error
    model.to(device).eval()
    return Trained(
        model=model,
        card=card,
        path=folder,
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        averaged=checkpoint.ema is not None,
    )
