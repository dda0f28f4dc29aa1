"""The one file that holds a trained model and everything needed to use it without the training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from common.config import UserError
from common.weights_file import read_dictionary
from rodent_behavior.backbones import build_backbone
from rodent_behavior.frames import Resize
from rodent_behavior.labels import LabelMap
from rodent_behavior.model import BehaviorModel, BehaviorModelConfig
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.pose_features import FeatureSet, Normalizer, build_features
from rodent_behavior.streaming import StreamingConfig
from rodent_behavior.trial_data import PoseEncoder

SCHEMA = 1
FILE_NAME = "best_model_multitask.pt"
PREVIOUS = "best_model_multitask.prev.pt"
BACKBONE = "backbone."
PLAIN = (
    "pose_features", "likelihood_threshold", "max_gap", "fps", "backbone", "backbone_sha256", "split",
    "settings", "epoch", "step", "weights_used", "val_metrics", "temperature", "reading", "run",
)  # fmt: skip
"""Fields of `ModelFile` that are stored as they are."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What a model file says besides its weights; plain types, `contents` and `load_model` convert.

    `temperature` divides the logits before softmax; `best_thresholds` is what `fit_thresholds` returned.
    `split` lists the groups of each side. `settings` is the text of the training configuration, `reading` how
    files were found and aligned: arguments of `IndexSettings` that are plain types. `run` is the name of the
    run folder.
    """

    model: BehaviorModelConfig
    labels: LabelMap
    kp_names: tuple[str, ...]
    pose_features: str
    axis_points: tuple[str, str] | None
    normalizer: Normalizer | None
    likelihood_threshold: float
    max_gap: int
    fps: float
    frame_size: tuple[int, int]
    backbone: str
    backbone_sha256: str
    resize: Resize
    split: dict[str, list[str]]
    settings: str
    epoch: int = 0
    step: int = 0
    weights_used: str = "raw"
    val_metrics: dict[str, float] | None = None
    temperature: dict[str, Any] | None = None
    reading: dict[str, Any] = field(default_factory=dict)
    run: str = ""
    best_thresholds: dict[str, Any] | None = None

    def index_arguments(self) -> dict[str, Any]:
        """Return the arguments of `IndexSettings` that make files be read as in training."""
        return self.reading | {
            "label_map": self.labels,
            "need_video": self.backbone != "none",
            "need_pose": self.pose_features != "none",
            "kp_names": self.kp_names,
            "kp_likelihood_thr": self.likelihood_threshold,
        }

    def contents(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return everything as plain types and tensors, loadable with weights_only=True."""
        plain = {name: getattr(self, name) for name in PLAIN}
        labels, normalizer = self.labels, self.normalizer
        merged = [raw for raw, to in labels.raw.items() if list(labels.raw.values()).count(to) > 1]
        return {
            **plain,
            "schema": SCHEMA,
            "model_state_dict": {name: value.detach().cpu() for name, value in state.items()},
            "model": asdict(self.model),
            "causal": self.model.causal,
            "classes": list(labels.names),
            "orig_classes": [labels.raw_names[raw] for raw in sorted(labels.raw_names)],
            "col_map": dict(labels.raw),
            "merge_idxs": merged,
            "label_map": {
                "background": labels.background,
                "raw_names": dict(labels.raw_names),
                "export": list(labels.export),
                "ignore": list(labels.ignore),
            },
            "best_thresholds": self.best_thresholds,
            "best_val_f1": None if self.val_metrics is None else self.val_metrics["macro_f1"],
            "kp_names": list(self.kp_names),
            "axis_points": None if self.axis_points is None else list(self.axis_points),
            "normalizer": None
            if normalizer is None
            else {"mean": normalizer.mean.tolist(), "std": normalizer.std.tolist()},
            "scale_rule": "running mean of 900" if self.model.causal else "median of the trial",
            "frame_size": list(self.frame_size),
            "img_size": self.resize.size,
            "resize_mode": self.resize.mode,
        }


@dataclass(frozen=True, eq=False)
class Trained:
    """A model read from a file, in evaluation mode."""

    file: ModelFile
    network: BehaviorNetwork
    path: Path

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return 1.0 if self.file.temperature is None else float(self.file.temperature["value"])

    def features(self, fps: float, frame_size: tuple[int, int]) -> FeatureSet | None:
        """Return the pose features for recordings of this rate and size."""
        file = self.file
        if file.pose_features == "none":
            return None
        return build_features(
            file.pose_features,
            kp_names=file.kp_names,
            fps=fps,
            causal=file.model.causal,
            frame_size=frame_size,
            axis_points=file.axis_points,
        )

    def encoder(self, features: FeatureSet | None) -> PoseEncoder | None:
        """Return the features with their standardisation."""
        if features is None or self.file.normalizer is None:
            return None
        return PoseEncoder(features, self.file.normalizer)

    def streaming(self) -> tuple[dict[str, np.ndarray[Any, Any]], StreamingConfig]:
        """Return weights and settings of the frame-by-frame model; UserError unless it is causal."""
        file = self.file
        if not file.model.causal:
            raise UserError(f"{self.path}: looks into the future; train with --causal for live use")
        state = self.network.behavior.state_dict()
        weights = {name: value.numpy() for name, value in state.items()}
        settings = StreamingConfig(
            model=file.model,
            classes=file.labels.names,
            fps=file.fps,
            frame_size=file.frame_size,
            kp_names=file.kp_names,
            pose_features=file.pose_features,
            normalizer=file.normalizer,
            axis_points=file.axis_points,
            likelihood_threshold=file.likelihood_threshold,
            max_gap=file.max_gap,
            temperature=self.temperature,
            source=str(self.path),
        )
        return weights, settings


def read_contents(path: Path) -> dict[str, Any]:
    """Return the contents of a model file; UserError when it is absent, damaged or of another schema."""
    if not path.is_file():
        raise UserError(f"{path}: no model file")
    contents = read_dictionary(path)
    if "schema" not in contents:
        raise UserError(f"{path}: is no model file of rodent_behavior")
    if contents["schema"] != SCHEMA:
        raise UserError(f"{path}: schema {contents['schema']}, this version reads {SCHEMA}")
    return contents


def load_checkpoint(path: Path, *, backbone_weights: Path | None = None) -> Trained:
    """Return the model of a file; nothing in the file is ever executed.

    `backbone_weights` is needed when the file was written without them. UserError names what is wrong.
    """
    contents = read_contents(path)
    try:
        file = _model_file(contents)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: an entry is missing or does not fit: {error}") from error
    return Trained(file, _network(path, file, contents["model_state_dict"], backbone_weights), path)


def _model_file(contents: Mapping[str, Any]) -> ModelFile:
    labels = LabelMap(
        names=tuple(contents["classes"]),
        background=contents["label_map"]["background"],
        raw=dict(contents["col_map"]),
        raw_names=dict(contents["label_map"]["raw_names"]),
        export=tuple(contents["label_map"]["export"]),
        ignore=tuple(contents["label_map"]["ignore"]),
    )
    normalizer, axis = contents["normalizer"], contents["axis_points"]
    return ModelFile(
        model=BehaviorModelConfig(**contents["model"]),
        labels=labels,
        kp_names=tuple(contents["kp_names"]),
        axis_points=None if axis is None else (axis[0], axis[1]),
        normalizer=None
        if normalizer is None
        else Normalizer(*(np.array(normalizer[part], np.float32) for part in ("mean", "std"))),
        frame_size=(contents["frame_size"][0], contents["frame_size"][1]),
        resize=Resize(contents["img_size"], contents["resize_mode"]),
        best_thresholds=contents.get("best_thresholds"),
        **{name: contents[name] for name in PLAIN},
    )


def _network(
    path: Path, file: ModelFile, state: dict[str, Tensor], backbone_weights: Path | None
) -> BehaviorNetwork:
    stored = any(name.startswith(BACKBONE) for name in state)
    if stored and backbone_weights is not None:
        raise UserError(f"{path} holds its backbone: --backbone_weights is for a model without")
    if not stored and backbone_weights is None and file.backbone != "none":
        raise UserError(f"{path} was saved without its backbone: give --backbone_weights of {file.backbone}")
    backbone = build_backbone(
        file.backbone,
        backbone_weights,
        random=stored and file.backbone != "tiny_cnn",
        img_size=file.resize.size,
    )
    network = BehaviorNetwork(BehaviorModel(file.model), backbone)
    own = network.state_dict()
    faults = [name for name in own if name not in state and (stored or not name.startswith(BACKBONE))]
    faults += [name for name in state if name not in own or state[name].shape != own[name].shape]
    if faults:
        raise UserError(f"{path}: its weights do not fit its settings: {', '.join(faults[:10])}")
    network.load_state_dict(state, strict=False)
    if backbone is not None and not stored and backbone.digest() != file.backbone_sha256:
        raise UserError(f"{path}: --backbone_weights holds other weights than those it was trained with")
    return network.eval()


def run_of(path: Path) -> str | None:
    """Return the run that wrote a model file; None when there is no readable one."""
    try:
        return str(read_contents(path).get("run"))
    except UserError:
        return None


def without_backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that are not the backbone's."""
    return {name: value for name, value in state.items() if not name.startswith(BACKBONE)}
