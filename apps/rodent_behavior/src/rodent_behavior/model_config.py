"""Sizes of the behaviour model, shared by the torch model and the streaming one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

TemporalModel = Literal["mstcnpp", "tcn"]
Head = Literal["linear", "cosine"]

POSE_WIDTH = 128
"""Outputs of the pose projection."""
COSINE_SCALE = 30.0
"""Factor between the cosines of a cosine head and its logits; the default scale of `ldam_loss`."""
NORM_GROUPS = 8
"""Groups of channels that the tcn normalises in each frame."""


class TemporalSizes(NamedTuple):
    """Default sizes of a temporal model."""

    hidden_dim: int
    num_layers: int
    refinements: int


DEFAULT_SIZES: dict[TemporalModel, TemporalSizes] = {
    "mstcnpp": TemporalSizes(64, 10, 1),
    "tcn": TemporalSizes(512, 3, 0),
}


@dataclass(frozen=True, kw_only=True)
class BehaviorModelConfig:
    """What a `BehaviorModel` is built from. ValueError names a field that does not fit."""

    num_classes: int
    """Outputs of the action head."""
    visual_dim: int = 0
    """Features per frame of the backbone; 0: no visual input."""
    pose_dim: int = 0
    """Pose features per frame; 0: no pose input."""
    num_keypoints: int = 0
    """Keypoints the keypoint head predicts; 0: no such head."""
    temporal_model: TemporalModel = "mstcnpp"
    """MS-TCN++, or dilated blocks with per-frame normalisation."""
    hidden_dim: int = 64
    """Channels of the temporal model."""
    num_layers: int = 10
    """Layers of each stage, or blocks of the tcn."""
    refinements: int = 1
    """Refinement stages of mstcnpp; 0 for the tcn."""
    causal: bool = False
    """No output depends on later input."""
    dropout: float = 0.3
    """Dropout of the temporal layers; the pose projection uses half."""
    head_dropout: float = 0.2
    """Dropout before the first action output layer and inside the keypoint head."""
    head: Head = "linear"
    """Action output layers: linear, or cosines times `COSINE_SCALE`."""

    def __post_init__(self) -> None:
        _check_choice("temporal_model", self.temporal_model, get_args(TemporalModel))
        _check_choice("head", self.head, get_args(Head))
        for name, least in (
            ("num_classes", 2), ("visual_dim", 0), ("pose_dim", 0), ("num_keypoints", 0),
            ("hidden_dim", 2), ("num_layers", 1), ("refinements", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: at least {least} is expected")
        for name in ("dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: 0 <= {name} < 1 is expected")
        if self.visual_dim + self.pose_dim == 0:
            raise ValueError("visual_dim and pose_dim are both 0: the model has no input")
        self._check_tcn()

    def _check_tcn(self) -> None:
        if self.temporal_model != "tcn":
            return
        if self.refinements:
            raise ValueError(f"refinements is {self.refinements}: the tcn has none")
        if self.hidden_dim % NORM_GROUPS:
            raise ValueError(f"hidden_dim is {self.hidden_dim}: the tcn needs a multiple of {NORM_GROUPS}")

    @property
    def input_dim(self) -> int:
        """Channels that enter the temporal model."""
        return self.visual_dim + (POSE_WIDTH if self.pose_dim else 0)


def dual_dilations(num_layers: int) -> list[tuple[int, int]]:
    """Return the two dilations of each dual layer: 2^(L-1-i) and 2^i."""
    return [(2 ** (num_layers - 1 - layer), 2**layer) for layer in range(num_layers)]


def dilations(num_layers: int) -> list[int]:
    """Return the dilations 1, 2, 4, ... of a plain stack."""
    return [2**layer for layer in range(num_layers)]


def receptive_field(config: BehaviorModelConfig) -> int:
    """Return how many input frames reach one output frame of the last stage."""
    plain = 2 * sum(dilations(config.num_layers))
    if config.temporal_model == "tcn":
        return 1 + plain
    dual = 2 * sum(max(pair) for pair in dual_dilations(config.num_layers))
    return 1 + dual + config.refinements * plain


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: one of {', '.join(choices)} is expected")
