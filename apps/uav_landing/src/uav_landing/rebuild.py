"""What a checkpoint says about its network and labels, and the way back from that to a predictor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from common.config import UserError, from_yaml
from common.engine.checkpoint import CheckpointError, load_latest_good, load_weights
from common.engine.manifest import CONFIG, EMA, MODEL, read_manifest
from uav_landing.config import TrainConfig
from uav_landing.landing_data import LandingData
from uav_landing.models.base import SegmentationModel
from uav_landing.models.build import from_block
from uav_landing.predictor import PhotoPredictor

APPLICATION = "uav_landing"
FIXED = ("application", "model", "class_ids", "mapping_hash", "table_hash", "data_fingerprint")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network from a checkpoint with its metadata.

    `sha256` is that of the weights file. `notes` say which damaged checkpoints were passed over.
    """

    model: SegmentationModel
    metadata: dict[str, Any]
    step: int
    epoch: int
    path: Path
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def class_ids(self) -> list[int]:
        """Return the landing class of each output."""
        return list(self.metadata["class_ids"])

    @property
    def run_folder(self) -> Path:
        """Return the folder of the run, or the one that holds a checkpoint folder moved elsewhere."""
        parent = self.path.parent
        return parent.parent if parent.name == "checkpoints" else parent

    @cached_property
    def config(self) -> TrainConfig:
        """Return the settings of the training run."""
        return from_yaml(TrainConfig, self.path / CONFIG)

    def summary(self) -> dict[str, Any]:
        """Return what a result file says about the network, as JSON types."""
        return {
            "path": str(self.path),
            "step": self.step,
            "epoch": self.epoch,
            "sha256": self.sha256,
            "model": self.metadata["model"],
            "class_ids": self.class_ids,
        }

    def predictor(
        self, *, device: torch.device, overlap: float, batch: int, tta: bool = False
    ) -> PhotoPredictor:
        """Return the network as a photo predictor at its training tile size."""
        height, width = self.metadata["input_size"]
        self.model.to(device).eval()
        return PhotoPredictor(
            model=self.model, tile=(height, width), overlap=overlap, batch=batch, device=device, tta=tta
        )


def describe(config: TrainConfig, data: LandingData, model: SegmentationModel) -> dict[str, Any]:
    """Return the metadata of a checkpoint: everything `load_trained` and the verbs need, as JSON types."""
    table = data.photos.table
    return {
        "application": APPLICATION,
        "model": model.model_block(),
        "class_ids": list(data.class_ids),
        "void": config.loss.void,
        "preset": config.preset,
        "label_table": table.name,
        "table_hash": table.table_hash,
        "mapping_hash": table.mapping_hash,
        "mapping": {str(item.id): item.landing for item in table.classes},
        "data_fingerprint": data.store.fingerprint,
        "store_scale": data.store.scale,
        "input_size": list(config.crops.input_size),
        "split": {
            "train": list(data.split.train),
            "val": list(data.split.val),
            "test": list(data.split.test),
        },
    }


def load_trained(where: Path) -> Trained:
    """Rebuild the network of a run folder (its best checkpoint) or a checkpoint folder.

    Raises UserError when there is no good checkpoint or it belongs to another application.
    """
    best = where / "checkpoints" / "best"
    try:
        checkpoint, notes = load_latest_good("best", where) if best.is_file() else load_latest_good(where)
    except CheckpointError as error:
        raise UserError(f"--checkpoint {where}: {error}") from error
    application = checkpoint.metadata.get("application")
    if application != APPLICATION:
        raise UserError(
            f"--checkpoint {where}: trained by {application or 'something else'}, not {APPLICATION}"
        )
    model = from_block(checkpoint.metadata["model"])
    assert checkpoint.path is not None
    try:
        load_weights(model, checkpoint.ema or checkpoint.model, what=str(checkpoint.path))
    except ValueError as error:
        raise UserError(f"--checkpoint {where}: {error}") from error
    files = read_manifest(checkpoint.path)["files"]
    return Trained(
        model=model.eval(),
        metadata=checkpoint.metadata,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        path=checkpoint.path,
        sha256=files[EMA if checkpoint.ema else MODEL]["sha256"],
        notes=tuple(notes),
    )
