"""The video networks by name: their sizes, blocks, inputs and weight files. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.config import UserError

Family = Literal["conv", "mvit", "swin"]
Colour = tuple[float, float, float]

LAYERS = ("layer4", "layer3", "layer2", "layer1", "stem")
"""Blocks of a convolutional network, from the heads to the input."""
STAGES = ("stage_3", "stage_2", "stage_1", "stage_0", "patch_embed")
"""Blocks of a transformer in the same order; the group names of the command line for every network."""
MINIMUM_SIDE = 64
PATCH_SIDE = 224
"""The only input side of multiscale vision transformers."""
HEIGHT_STEP = 8

_KINETICS: tuple[Colour, Colour] = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
_GREY: tuple[Colour, Colour] = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
_IMAGENET: tuple[Colour, Colour] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is known of a network before it is built."""

    name: str
    family: Family
    parameters: int
    """Without classifier, at `frames` frames."""
    dim: int
    """Features."""
    normalisation: tuple[Colour, Colour]
    """Mean and deviation of the input its published weights were trained with."""
    classifier: str
    """Prefix of the classifier's tensors in a weights file."""
    file: str | None = None
    """Name of the published weights; None: there are only those of the user."""
    frames: int = 16
    """Frames of its published weights."""
    least_frames: int = 1
    fixed_frames: bool = False
    frame_step: int = 1
    """The number of frames is a multiple."""
    parameters_per_frame: int = 0

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of its freezable parts, from the heads to the input."""
        return LAYERS if self.family == "conv" else STAGES

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width of the input when none are asked for."""
        return (224, 398) if self.family == "conv" else (PATCH_SIDE, PATCH_SIDE)

    def parameters_at(self, frames: int) -> int:
        """Return the number of parameters for clips of `frames`."""
        return self.parameters + self.parameters_per_frame * (frames - self.frames)

    def check_input(self, frames: int, height: int, width: int) -> None:
        """Raise UserError naming the flag when the network cannot take such clips."""
        self._check_frames(frames)
        if self.family == "mvit":
            if (height, width) != (PATCH_SIDE, PATCH_SIDE):
                raise UserError(
                    f"--img_height {height} --img_width {width}: {self.name} takes only "
                    f"{PATCH_SIDE} x {PATCH_SIDE}"
                )
            return
        if height < MINIMUM_SIDE or (self.family == "conv" and height % HEIGHT_STEP):
            step = f", a multiple of {HEIGHT_STEP}" if self.family == "conv" else ""
            raise UserError(f"--img_height {height}: {self.name} needs at least {MINIMUM_SIDE}{step}")
        if width < MINIMUM_SIDE:
            raise UserError(f"--img_width {width}: {self.name} needs at least {MINIMUM_SIDE}")

    def _check_frames(self, frames: int) -> None:
        flag = f"--frames_per_clip {frames}"
        if self.fixed_frames and frames != self.frames:
            raise UserError(f"{flag}: {self.name} takes exactly {self.frames}")
        if frames < self.least_frames:
            raise UserError(f"{flag}: {self.name} needs at least {self.least_frames}")
        if frames % self.frame_step:
            raise UserError(f"{flag}: {self.name} needs a multiple of {self.frame_step}")


def _resnet(name: str, parameters: int, dim: int, file: str | None) -> Architecture:
    return Architecture(
        name=name, family="conv", parameters=parameters, dim=dim, normalisation=_KINETICS, classifier="fc.",
        file=file,
    )  # fmt: skip


def _mvit(name: str, parameters: int, file: str) -> Architecture:
    return Architecture(
        name=name, family="mvit", parameters=parameters, dim=768, normalisation=_GREY, classifier="head.",
        file=file, fixed_frames=True,
    )  # fmt: skip


def _swin(name: str, parameters: int, dim: int, file: str) -> Architecture:
    return Architecture(
        name=name, family="swin", parameters=parameters, dim=dim, normalisation=_IMAGENET,
        classifier="head.", file=file,
    )  # fmt: skip


_LISTED = (
    _resnet("resnet3d_18", 33_166_272, 512, "r3d_18-b3b3357e.pth"),
    _resnet("mc3_18", 11_490_240, 512, "mc3_18-a90a0ba3.pth"),
    _resnet("r2plus1d_18", 31_300_125, 512, "r2plus1d_18-91a641e6.pth"),
    _resnet("resnet3d_50", 46_161_344, 2048, None),
    Architecture(
        name="s3d", family="conv", parameters=7_910_048, dim=1024, normalisation=_KINETICS,
        classifier="classifier.", file="s3d-d76dad2f.pth", least_frames=14,
    ),
    _mvit("mvit_v1_b", 36_303_072, "mvit_v1_b-dbeb1030.pth"),
    _mvit("mvit_v2_s", 34_230_144, "mvit_v2_s-ae3be167.pth"),
    Architecture(
        name="mvitv2_b", family="mvit", parameters=50_922_528, dim=768, normalisation=_GREY,
        classifier="head.", frames=32, least_frames=2, frame_step=2, parameters_per_frame=24 * 96,
    ),
    _swin("swin3d_t", 27_850_470, 768, "swin3d_t-7615ae03.pth"),
    _swin("swin3d_s", 49_509_078, 768, "swin3d_s-da41c237.pth"),
    _swin("swin3d_b", 87_638_984, 1024, "swin3d_b_1k-24f7c7c6.pth"),
    _resnet("small3d", 1011376, 128, None),
)  # fmt: skip

BACKBONES: dict[str, Architecture] = {entry.name: entry for entry in _LISTED}
"""Every network, under the names of `--backbone_name`."""

ARCHITECTURES: dict[str, str] = {
    "swin": "swin3d_t",
    "mvit": "mvit_v2_s",
    "mvitv2_s": "mvit_v2_s",
    "mvitv2_small": "mvit_v2_s",
    "mvitv2": "mvitv2_b",
    "mvitv2_base": "mvitv2_b",
    "true-mvitv2b": "mvitv2_b",
    "pyslowfast": "mvitv2_b",
    "k400": "mvitv2_b",
    "kinetics400": "mvitv2_b",
    "k600": "mvitv2_b",
    "kinetics600": "mvitv2_b",
    **{name: name for name in BACKBONES},
}
"""The network behind each name of `--backbone-arch`."""

WEIGHTS_CLASSES = {"k400": 400, "kinetics400": 400, "k600": 600, "kinetics600": 600}
"""Names of `--backbone-arch` that need a weights file, and the classes its head must have."""


def architecture(name: str) -> Architecture:
    """Return the entry of `BACKBONES`; UserError listing the names when there is none."""
    if name not in BACKBONES:
        raise UserError(f"--backbone_name {name}: one of {', '.join(BACKBONES)} is expected")
    return BACKBONES[name]
